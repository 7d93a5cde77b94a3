package iwarp

import (
	"log/slog"
	"net"
	"reflect"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/rdmanet"
)

// Info describes the path that a connection took. A peer of this package that has declined says
// why: Err then is "peer: limit", "peer: no device" or the like, and the peer's Info of the plain
// connection has that Reason. "peer: policy never" is of a listener that has devices, but no
// software among its Transports; one with OffloadNever does not look at what clients say.
type Info struct {
	Transport string // "tcp" for plain TCP, otherwise the name of the transport, such as "soft"
	Device    string // verbs name of the device, empty for plain TCP
	Offloaded bool   // true if the connection bypasses the kernel's TCP, as with all devices but siw and rxe
	Reason    Reason // why it is plain TCP; ReasonNone if it is not
	Err       error  // what led to Reason, nil if the reason says it all

	// RedirectPort is the server's port on the wire, where an iWARP device listens on a port other
	// than that of the service and clients are redirected; LocalAddr and RemoteAddr still have the
	// port of the service. 0 means that the ports are those of the addresses.
	RedirectPort uint16

	// Ignored names the fields of the Dialer or ListenConfig that are set but that the connection does
	// not obey, because it is a device's: "Control", "ControlContext", "ReadBudget",
	// "KeepAliveConfig.Interval" and "KeepAliveConfig.Count". Where one must be obeyed, use
	// OffloadNever, or Transports without devices.
	Ignored []string
}

// LogValue implements slog.LogValuer: a group of what is known. Of Err it has only what Reason does
// not say.
func (i Info) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("transport", i.Transport), slog.Bool("offloaded", i.Offloaded)}
	if i.Device != "" {
		attrs = append(attrs, slog.String("device", i.Device))
	}
	if i.Reason != ReasonNone {
		attrs = append(attrs, slog.String("reason", i.Reason.String()))
	}
	if what := i.Reason.beyond(i.Err); what != "" {
		attrs = append(attrs, slog.String("error", what))
	}
	if i.RedirectPort != 0 {
		attrs = append(attrs, slog.Int("redirect_port", int(i.RedirectPort)))
	}
	if len(i.Ignored) > 0 {
		attrs = append(attrs, slog.Any("ignored", i.Ignored))
	}
	return slog.GroupValue(attrs...)
}

// Describe says which path c took, and why. It knows the connections that a Dialer or Listener of
// this package has returned, and any *rdmanet.Conn; for others it returns false. Inside other
// connections it finds them by a method NetConn, as *tls.Conn has, UnderlyingConn, Raw or Unwrap
// that returns a net.Conn, or in an embedded net.Conn, as those of golang.org/x/net/netutil and
// cmux have; as a last resort, which takes longer the more connections there are, by their two
// addresses. It may be called at any time, even after Close.
func Describe(c net.Conn) (Info, bool) {
	_, info, ok := find(c)
	return info, ok
}

// find returns the connection of this package that c is, or that is inside.
func find(c net.Conn) (net.Conn, Info, bool) {
	outer := c
	for range maxWrappers {
		switch t := c.(type) {
		case *net.TCPConn:
			info, ok := recall(t)
			return t, info, ok
		case *rdmanet.Conn:
			if t == nil {
				return nil, Info{}, false
			}
			notes.sort()
			return t, withDevice(t, streams.find(t)), true
		}
		if c = inner(c); c == nil {
			break
		}
	}
	return byAddresses(outer)
}

// maxWrappers bounds the connections wrapped around one, as a connection may wrap itself.
const maxWrappers = 32

// inner returns what c is made of, or nil.
func inner(c net.Conn) net.Conn {
	switch t := c.(type) {
	case interface{ NetConn() net.Conn }:
		return t.NetConn()
	case interface{ UnderlyingConn() net.Conn }:
		return t.UnderlyingConn()
	case interface{ Raw() net.Conn }:
		return t.Raw()
	case interface{ Unwrap() net.Conn }:
		return t.Unwrap()
	}
	return embeddedIn(reflect.ValueOf(c))
}

// embeddedIn returns the connection that is embedded in a struct, or in a struct that is embedded
// there, or nil.
func embeddedIn(v reflect.Value) net.Conn {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case !f.Anonymous:
		case f.IsExported():
			if c, ok := v.Field(i).Interface().(net.Conn); ok {
				return c
			}
		case f.Type.Kind() != reflect.Pointer: // or it could go round in circles
			if c := embeddedIn(v.Field(i)); c != nil {
				return c
			}
		}
	}
	return nil
}

func withDevice(c *rdmanet.Conn, info Info) Info {
	if info.Device == "" {
		info.Device = c.Attributes().Device
	}
	return info
}

// byAddresses looks for the one connection with the addresses of c.
func byAddresses(c net.Conn) (found net.Conn, info Info, ok bool) {
	local, remote := addrPair(c)
	if local == "" || remote == "" {
		return nil, Info{}, false
	}
	n := 0
	known(func(c net.Conn, i Info) bool {
		if hasAddrs(c, local, remote) {
			found, info = c, i
			n++
		}
		return n < 2
	})
	if n != 1 { // another one had the ports before
		return nil, Info{}, false
	}
	return found, info, true
}

// known calls each with the connections of this package that are not garbage, until it returns
// false.
func known(each func(net.Conn, Info) bool) {
	notes.sort()
	more := true
	paths.Range(func(key, v any) bool {
		if t := key.(weak.Pointer[net.TCPConn]).Value(); t != nil {
			more = each(t, v.(*path).info)
		}
		return more
	})
	if !more {
		return
	}
	for c, info := range streams.all() {
		if !each(c, withDevice(c, *info)) {
			return
		}
	}
}

func hasAddrs(c net.Conn, local, remote string) bool {
	l, r := addrPair(c)
	return l == local && r == remote
}

// addrPair returns the addresses of c in the form of package net, each empty if there is none.
func addrPair(c net.Conn) (local, remote string) {
	defer func() { _ = recover() }() // c may be made of nothing
	if v := reflect.ValueOf(c); c == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return "", ""
	}
	text := func(a net.Addr) string {
		t, ok := a.(*net.TCPAddr)
		if !ok || t == nil {
			return ""
		}
		return t.String()
	}
	return text(c.LocalAddr()), text(c.RemoteAddr())
}

// paths remembers the path of connections of plain TCP without keeping them: by weak pointer, until
// the connection is garbage.
var paths sync.Map

// A path is what is known of a connection.
type path struct {
	info  Info
	stats *statpage.Conn // what others see of it; may be nil
}

// origin says how a connection came about.
type origin struct {
	began    time.Time // zero if that is not known
	accepted bool
}

// remember records the path that c took. It must be called once, before c is handed out.
func remember[T net.TCPConn | rdmanet.Conn](c *T, info Info, from origin) *T {
	n := note{conn: c, info: info, accepted: from.accepted}
	if !from.began.IsZero() {
		n.took = time.Since(from.began)
	}
	notes.add(n)
	return c
}

// A note is what must still be put into paths, which takes a tenth of the time of a dial, so it is
// done a moment later, or when needed.
type note struct {
	conn     any // *net.TCPConn or *rdmanet.Conn
	info     Info
	accepted bool
	took     time.Duration // 0 if that is not known
}

func (n *note) sort() {
	switch c := n.conn.(type) {
	case *net.TCPConn:
		sortOf(c, &path{n.info, n.publishTCP(c)})
	case *rdmanet.Conn:
		n.publishStream(c)
		streams.add(c, &n.info)
	}
	d := statpage.Dialed
	if n.accepted {
		d = statpage.Accepted
	}
	statpage.SetUp(d, n.info.Transport, uint8(n.info.Reason), n.took)
}

func sortOf(c *net.TCPConn, p *path) {
	key := weak.Make(c)
	paths.Store(key, p)
	runtime.AddCleanup(c, func(key weak.Pointer[net.TCPConn]) {
		paths.Delete(key)
		if p.stats != nil {
			p.stats.Free()
		}
	}, key)
}

type notebook struct {
	mu    sync.Mutex
	notes []note
	timer *time.Timer
}

var notes notebook

// sortAfter is how long a note keeps alive a connection that may be garbage.
const sortAfter = 2 * time.Millisecond

func (b *notebook) add(n note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.notes = append(b.notes, n); len(b.notes) > 1 {
		return
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(sortAfter, b.sort)
		return
	}
	b.timer.Reset(sortAfter)
}

func (b *notebook) sort() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.notes {
		b.notes[i].sort()
	}
	clear(b.notes)
	if b.notes = b.notes[:0]; cap(b.notes) > maxNotes {
		b.notes = nil
	}
}

// maxNotes is how many notes there is always room for.
const maxNotes = 256

func recall(c *net.TCPConn) (Info, bool) {
	if c == nil {
		return Info{}, false
	}
	notes.sort()
	v, ok := paths.Load(weak.Make(c))
	if !ok {
		return Info{}, false
	}
	return v.(*path).info, true
}

func plainInfo(reason Reason, err error) Info {
	return Info{Transport: "tcp", Reason: reason, Err: err}
}
