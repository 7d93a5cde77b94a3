package iwarp

import (
	"log/slog"
	"net"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
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
	paths.Range(func(_, v any) bool {
		if p := v.(weak.Pointer[plainConn]).Value(); p != nil {
			more = each(&p.TCPConn, p.info)
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

// paths remembers the path of connections of plain TCP without keeping them: a
// weak.Pointer[plainConn] by weak.Pointer[net.TCPConn], until the connection is garbage.
var paths sync.Map

// A plainConn is a connection of plain TCP that is handed out, and what is known of it. The runtime
// looks for the weak pointers and cleanups of an object among those of all objects beside it: that
// is soon a thousand where the object is a net.TCPConn by itself, which has the size of a pointer.
type plainConn struct {
	net.TCPConn
	first *net.TCPConn // as package net has made it, for those that have a weak pointer to it
	info  Info         // its path
	note  note
}

// origin says how a connection came about.
type origin struct {
	began    time.Time // zero if that is not known
	accepted bool
}

// took is how long the connection took, 0 if that is not known.
func (o origin) took() time.Duration {
	if o.began.IsZero() {
		return 0
	}
	return time.Since(o.began)
}

// rememberTCP records the path that c took. It must be called once, and what it returns is handed
// out in place of c.
func rememberTCP(c *net.TCPConn, info Info, from origin) *net.TCPConn {
	p := &plainConn{TCPConn: *c, first: c, info: info}
	p.note.plain, p.note.info, p.note.accepted, p.note.took = p, &p.info, from.accepted, from.took()
	notes.add(&p.note)
	return &p.TCPConn
}

// remember records the path that c took. It must be called once, before c is handed out.
func remember(c *rdmanet.Conn, info Info, from origin) *rdmanet.Conn {
	n := blankNotes.Get().(*note)
	n.stream, n.info, n.accepted, n.took = c, streams.share(&info), from.accepted, from.took()
	notes.add(n)
	return c
}

// A note is what must still be put into paths, which takes a tenth of the time of a dial, so it is
// done a moment later, or when needed.
type note struct {
	next     *note
	plain    *plainConn
	stream   *rdmanet.Conn // unless plain is set
	info     *Info
	accepted bool
	took     time.Duration // 0 if that is not known
}

var blankNotes = sync.Pool{New: func() any { return new(note) }} // for streams

// sort must not be called twice.
func (n *note) sort() {
	d := statpage.Dialed
	if n.accepted {
		d = statpage.Accepted
	}
	statpage.SetUp(d, n.info.Transport, uint8(n.info.Reason), n.took)
	if p := n.plain; p != nil {
		p.keepPath(n.publishTCP(p))
		*n = note{}
		return
	}
	n.publishStream(n.stream)
	streams.add(n.stream, n.info)
	*n = note{}
	blankNotes.Put(n)
}

// keepPath puts p into paths. Others see stats of it, which may be nil.
func (p *plainConn) keepPath(stats *statpage.Conn) {
	key := weak.Make(&p.TCPConn)
	paths.Store(key, weak.Make(p))
	runtime.AddCleanup(p, func(key weak.Pointer[net.TCPConn]) {
		paths.Delete(key)
		if stats != nil {
			stats.Free()
		}
	}, key)
}

// A notebook is what was noted, the latest first.
type notebook struct {
	latest  atomic.Pointer[note]
	sorting sync.Mutex // held until what was noted is where it belongs
}

var (
	notes     notebook
	sortTimer = sync.OnceValue(func() *time.Timer { return time.AfterFunc(sortAfter, notes.sort) })
)

// sortAfter is how long a note keeps alive a connection that may be garbage.
const sortAfter = 20 * time.Millisecond

func (b *notebook) add(n *note) {
	for {
		n.next = b.latest.Load()
		first := n.next == nil
		if !b.latest.CompareAndSwap(n.next, n) {
			continue
		}
		if first {
			sortTimer().Reset(sortAfter)
		}
		return
	}
}

func (b *notebook) sort() {
	b.sorting.Lock()
	defer b.sorting.Unlock()
	for n := b.latest.Swap(nil); n != nil; {
		next := n.next
		n.sort()
		n = next
	}
}

func recall(c *net.TCPConn) (Info, bool) {
	if c == nil {
		return Info{}, false
	}
	notes.sort()
	v, ok := paths.Load(weak.Make(c))
	if !ok {
		return Info{}, false
	}
	return v.(weak.Pointer[plainConn]).Value().info, true // which c keeps alive
}

func plainInfo(reason Reason, err error) Info {
	return Info{Transport: "tcp", Reason: reason, Err: err}
}
