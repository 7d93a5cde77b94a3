package frames

import (
	"net/netip"
	"sync"
	"time"
)

// A Frame is an FPDU, as it is on the wire.
type Frame struct {
	At   time.Time
	Out  bool   // sent, or else received
	Bad  bool   // its CRC is wrong
	Size int    // bytes in all
	Data []byte // the first of them, without payload; all of them where Limits has Payload
}

// Limits say when a trace ends, and what it keeps.
type Limits struct {
	Frames  int
	Time    time.Duration
	Payload bool // which is what the application sends
}

// The bounds of Limits, and of what payload there may be in one trace.
const (
	MostFrames = 10_000
	MostTime   = 10 * time.Minute
	mostBytes  = 16 << 20
)

func (l Limits) within() Limits {
	l.Frames = min(max(l.Frames, 1), MostFrames)
	l.Time = min(max(l.Time, time.Second), MostTime)
	return l
}

// Traits are what a dissector would know of the start of the connection.
type Traits struct {
	Initiator bool // this end has sent the MPA request
	Revision  int  // of MPA
	CRC       bool
}

// A Source sees the frames of a connection.
type Source interface {
	// SwapTrace has frames go to now if they went to before; nil stands for none. It reports whether
	// they did.
	SwapTrace(before, now *Trace) bool

	// FrameTraits returns what is known of the start of the connection.
	FrameTraits() Traits

	// FrameReader returns what says what frames mean. It does not keep the connection in memory.
	FrameReader() func(*Frame) Text
}

// A Text is what a frame means.
type Text struct {
	Op      string // such as "RDMA Write"
	Where   string // the fields of DDP
	Payload int    // bytes
	Last    bool   // of its message
	Note    string // what it says to the stream, or to RDMAP
	Fault   string // what is wrong with it

	Tagged bool
	STag   uint32 // of a tagged one, and where it goes
	Offset uint64
	Word   []byte // 4 bytes, if a Send has just that many
}

// A Trace is the frames of one connection from one moment to another. Several goroutines may use it
// at once.
type Trace struct {
	Limits
	Traits
	Local, Remote netip.AddrPort
	Began         time.Time
	Read          func(*Frame) Text

	mu     sync.Mutex
	frames []Frame
	slab   []byte
	bytes  int
	why    string // it has ended
	source Source // nil once it has
	timer  *time.Timer
}

// Add records a frame, of which head is what is kept: all of it, with Payload. Once the trace has
// ended it does nothing.
func (t *Trace) Add(out, bad bool, size int, head ...[]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now() // so that one frame does not come before another that is kept before it
	if t.why != "" {
		return
	}
	n := 0
	for _, part := range head {
		n += len(part)
	}
	if t.bytes+n > mostBytes {
		t.end("there is no room for more payload")
		return
	}
	t.frames = append(t.frames, Frame{At: now, Out: out, Bad: bad, Size: size, Data: t.keep(n, head)})
	if len(t.frames) >= t.Limits.Frames {
		t.end("it has all frames that were asked for")
	}
}

// keep copies n bytes. Its caller holds mu.
func (t *Trace) keep(n int, head [][]byte) []byte {
	const slab = 16 << 10
	if cap(t.slab)-len(t.slab) < n {
		t.slab = make([]byte, 0, max(slab, n))
	}
	start := len(t.slab)
	for _, part := range head {
		t.slab = append(t.slab, part...)
	}
	t.bytes += n
	return t.slab[start:len(t.slab):len(t.slab)]
}

// Stop ends the trace. What it has stays.
func (t *Trace) Stop() { t.stop("it was stopped") }

// Over ends the trace of a connection that is closed.
func (t *Trace) Over() { t.stop("the connection is closed") }

func (t *Trace) stop(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end(why)
}

// end ends the trace, unless it has ended. Its caller holds mu.
func (t *Trace) end(why string) {
	if t.why != "" {
		return
	}
	t.why = why
	t.source.SwapTrace(t, nil)
	t.source = nil
	t.timer.Stop()
}

// Frames returns the frames so far, and why there will be no more; that is empty while there may.
func (t *Trace) Frames() (list []Frame, ended string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.frames[:len(t.frames):len(t.frames)], t.why
}
