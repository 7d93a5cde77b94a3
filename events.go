package iwarp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// What loggers are told. Each message has its attributes: local, remote, path (an Info), error.
const (
	eventPath      = "iwarp: connected"                   // debug
	eventFallback  = "iwarp: plain TCP"                   // info: not what the policy would have liked; once for each peer and Reason
	eventRefusal   = "iwarp: client of plain TCP refused" // warn; once for each peer
	eventSurplus   = "iwarp: client over a limit refused" // warn; once for each peer
	eventHandshake = "iwarp: handshake failed"            // warn; once for each listener and Reason
	eventFailed    = "iwarp: no connection"               // info: OffloadRequire or OffloadDevice was not met; once for each peer and Reason
	eventTerminate = "iwarp: connection terminated"       // warn: by an RDMAP Terminate
	eventAbort     = "iwarp: connection failed"           // info
	eventConflict  = "iwarp: port conflict"               // warn
)

var processLogger atomic.Pointer[slog.Logger]

// SetLogger has the package tell l of what happens: which path each connection takes (debug), where
// it is plain TCP although the policy would have liked something else, and why (info), clients that
// a listener refuses and handshakes that fail (warn), connections that end by a fault (info), or by
// an RDMAP Terminate (warn), and conflicts of ports (warn). Fallbacks and what is refused are told
// once for each peer and Reason, handshakes that fail for each listener. It applies to Dialers and
// ListenConfigs without a Logger. nil, which is the default, means silence. It may be called at any
// time, by several goroutines at once.
//
// A Logger may take its time, and may close what it is told of: the call of Dial or Accept that
// returns a connection tells of it itself, and waits for nothing but the Logger; of its other
// clients each listener tells by a goroutine, and leaves out what comes while 64 are still to be
// told.
func SetLogger(l *slog.Logger) {
	processLogger.Store(l)
	if l != nil {
		hearOfFailures()
	}
}

func loggerOr(own *slog.Logger) *slog.Logger {
	if own != nil {
		return own
	}
	return processLogger.Load()
}

// hearOfFailures has package rdmanet tell of connections that end by a fault, which costs those
// something, so only where somebody wants to know.
func hearOfFailures() { statpage.OnFailure.CompareAndSwap(nil, &logFailure) }

var logFailure = func(conn any, err error) {
	c, ok := conn.(*rdmanet.Conn)
	if !ok {
		return
	}
	own, _ := ownLoggers.Load(weak.Make(c))
	l, _ := own.(*slog.Logger)
	log := loggerOr(l)
	if log == nil {
		return
	}
	info, _ := Describe(c)
	level, event := slog.LevelInfo, eventAbort
	var t *transport.TerminateError
	if errors.As(err, &t) {
		level, event = slog.LevelWarn, eventTerminate
	}
	log.LogAttrs(context.Background(), level, event, addrAttr("local", c.LocalAddr()), addrAttr("remote", c.RemoteAddr()), slog.Any("path", info), slog.Any("error", err))
}

// ownLoggers has the Loggers of iWARP connections, where not the process's, until they are garbage.
var ownLoggers sync.Map

func addrAttr(key string, a net.Addr) slog.Attr { return slog.String(key, a.String()) }

// logDial tells of what became of a dial.
func (d *Dialer) logDial(ctx context.Context, log *slog.Logger, address string, c net.Conn, err error) {
	var why *OffloadError
	switch {
	case c != nil:
		logConn(ctx, log, d.Logger, c, netaddr.Of(c.RemoteAddr()).String())
	case errors.As(err, &why) && told.first(occasion{log, address, why.Reason, "dial"}):
		log.LogAttrs(ctx, slog.LevelInfo, eventFailed, slog.String("remote", address), slog.String("reason", why.Reason.String()), slog.Any("error", err))
	}
}

// logAccepted tells of a client that Accept returns.
func (l *Listener) logAccepted(c net.Conn) {
	if log := loggerOr(l.config.Logger); log != nil {
		logConn(context.Background(), log, l.config.Logger, c, hostOf(c))
	}
}

func hostOf(c net.Conn) string { return netaddr.Of(c.RemoteAddr()).Addr().String() }

// logConn tells of the path of a connection. A fallback is told once for each peer and reason.
func logConn(ctx context.Context, log, own *slog.Logger, c net.Conn, peer string) {
	if s, ok := c.(*rdmanet.Conn); ok && own != nil {
		hearOfFailures()
		key := weak.Make(s)
		ownLoggers.Store(key, own)
		runtime.AddCleanup(s, func(key weak.Pointer[rdmanet.Conn]) { ownLoggers.Delete(key) }, key)
	}
	info, _ := Describe(c)
	attrs := []slog.Attr{addrAttr("local", c.LocalAddr()), addrAttr("remote", c.RemoteAddr()), slog.Any("path", info)}
	if info.Reason != ReasonNone && info.Reason != ReasonPolicy && told.first(occasion{log, peer, info.Reason, "path"}) {
		log.LogAttrs(ctx, slog.LevelInfo, eventFallback, attrs...)
		return
	}
	log.LogAttrs(ctx, slog.LevelDebug, eventPath, attrs...)
}

// logRefused tells of a client of plain TCP that the policy has no use for.
func (l *Listener) logRefused(c net.Conn) {
	if log := loggerOr(l.config.Logger); log != nil {
		l.warn(occasion{log, hostOf(c), ReasonNotIWARP, "refusal"}, eventRefusal, addrAttr("local", c.LocalAddr()), addrAttr("remote", c.RemoteAddr()))
	}
}

// logSurplus tells of a client whose peer has as many as it may.
func (l *Listener) logSurplus(local, remote netip.AddrPort) {
	if log := loggerOr(l.config.Logger); log != nil {
		l.warn(occasion{log, remote.Addr().String(), ReasonLimit, "refusal"}, eventSurplus,
			slog.String("local", local.String()), slog.String("remote", remote.String()), slog.String("reason", ReasonLimit.String()))
	}
}

// logHandshake tells of a client of iWARP whose set-up has failed.
func (l *Listener) logHandshake(err error) {
	if log := loggerOr(l.config.Logger); log != nil {
		reason := reasonOf(err)
		l.warn(occasion{log, l.Addr().String(), reason, "handshake"}, eventHandshake,
			addrAttr("local", l.Addr()), slog.String("reason", reason.String()), slog.Any("error", err))
	}
}

// warn tells of what is told once, without waiting for the logger.
func (l *Listener) warn(o occasion, event string, attrs ...slog.Attr) {
	tell := func() { o.log.LogAttrs(context.Background(), slog.LevelWarn, event, attrs...) }
	if told.first(o) && !l.herald.add(tell) {
		told.forget(o)
	}
}

// A herald calls functions, one after the other, in a goroutine that is there while there are any.
type herald struct {
	mu    sync.Mutex
	queue []func()
	runs  bool
}

const mostUntold = 64

// add returns false if there are too many.
func (h *herald) add(tell func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == mostUntold {
		return false
	}
	h.queue = append(h.queue, tell)
	if !h.runs {
		h.runs = true
		go h.run()
	}
	return true
}

func (h *herald) run() {
	for tell := h.next(); tell != nil; tell = h.next() {
		tell()
	}
}

// next returns nil if the goroutine must end.
func (h *herald) next() (tell func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.runs = len(h.queue) > 0; !h.runs {
		h.queue = nil
		return nil
	}
	tell, h.queue = h.queue[0], h.queue[1:]
	return tell
}

// logConflict tells of a port that is taken, and returns err.
func logConflict(own *slog.Logger, err error) error {
	var c *ConflictError
	if log := loggerOr(own); log != nil && errors.As(err, &c) {
		said := *c
		said.quiet = false
		log.LogAttrs(context.Background(), slog.LevelWarn, eventConflict, slog.String("local", c.Addr.String()), slog.Any("error", &said))
	}
	return err
}

// An occasion is what is told once.
type occasion struct {
	log    *slog.Logger
	peer   string
	reason Reason
	what   string
}

// occasions remembers what was told.
type occasions struct {
	mu sync.Mutex
	m  map[occasion]struct{}
}

var told occasions

// maxOccasions bounds what peers can make a process remember; then everything may be told again.
const maxOccasions = 4096

// first reports whether it is called for the first time.
func (o *occasions) first(key occasion) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.m[key]; known {
		return false
	}
	if o.m == nil || len(o.m) >= maxOccasions {
		o.m = make(map[occasion]struct{})
	}
	o.m[key] = struct{}{}
	return true
}

// forget undoes a first.
func (o *occasions) forget(key occasion) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.m, key)
}
