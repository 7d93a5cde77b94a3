package frames

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Find returns the source of a connection by its addresses, or why there is none. The package that
// knows all connections sets it.
var Find = func(local, remote netip.AddrPort) (Source, error) { return nil, errors.ErrUnsupported }

// OfStream returns the source of an *rdmanet.Conn, or nil if its transport has no frames or shows
// none. Package rdmanet sets it.
var OfStream func(conn any) Source

// Export writes a trace as a file for dissectors. It is nil where nobody has set it, as a library
// is needed for that.
var Export func(w io.Writer, t *Trace) error

// most is how many traces there may be, with those that have ended and that nobody has replaced.
const most = 8

// Why a connection has no trace.
var (
	ErrNotFound = errors.New("there is no such connection, or package iwarp has not made it")
	ErrPlain    = errors.New("plain TCP has no frames; tcpdump shows its segments")
	ErrDevice   = errors.New("the device makes the frames, and shows none here; tcpdump on its interface sees those of siw and rxe")
	ErrNone     = errors.New("the transport has no frames, as in shared memory")
)

var errBusy = errors.New("too many connections are traced; stop one of the traces")

var traces struct {
	mu   sync.Mutex
	list []*Trace // the oldest first
}

// Start begins a trace of the connection with the addresses, in place of the one that it has.
func Start(local, remote netip.AddrPort, l Limits) (*Trace, error) {
	s, err := Find(local, remote)
	if err != nil {
		return nil, err
	}
	t := &Trace{Limits: l.within(), Traits: s.FrameTraits(), Local: local, Remote: remote, Began: time.Now(), Read: s.FrameReader(), source: s}
	traces.mu.Lock()
	defer traces.mu.Unlock()
	if i := indexOf(local, remote); i >= 0 {
		traces.list[i].Stop()
		traces.list = slices.Delete(traces.list, i, i+1)
	}
	if len(traces.list) >= most && !dropEnded() {
		return nil, errBusy
	}
	t.mu.Lock() // for Add and the timer
	defer t.mu.Unlock()
	if !s.SwapTrace(nil, t) {
		return nil, errors.New("the connection is traced already")
	}
	t.timer = time.AfterFunc(t.Limits.Time, func() { t.stop("the time is over") })
	traces.list = append(traces.list, t)
	return t, nil
}

// Of returns the latest trace of the connection with the addresses, or nil.
func Of(local, remote netip.AddrPort) *Trace {
	traces.mu.Lock()
	defer traces.mu.Unlock()
	if i := indexOf(local, remote); i >= 0 {
		return traces.list[i]
	}
	return nil
}

// All returns the traces that there are, the oldest first.
func All() []*Trace {
	traces.mu.Lock()
	defer traces.mu.Unlock()
	return slices.Clone(traces.list)
}

func indexOf(local, remote netip.AddrPort) int {
	return slices.IndexFunc(traces.list, func(t *Trace) bool { return t.Local == local && t.Remote == remote })
}

// dropEnded makes room by dropping the oldest trace that has ended.
func dropEnded() bool {
	i := slices.IndexFunc(traces.list, func(t *Trace) bool {
		_, ended := t.Frames()
		return ended != ""
	})
	if i < 0 {
		return false
	}
	traces.list = slices.Delete(traces.list, i, i+1)
	return true
}
