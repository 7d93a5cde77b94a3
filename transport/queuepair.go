package transport

import (
	"net/netip"
	"time"
)

// A QueuePair is one end of a reliable connection (RFC 5040 §1.2: an RDMAP stream and its queues).
//
// All methods may be called by several goroutines at once. Work posted by one call stays in its
// order; the ordering of RDMA operations is that of RFC 5040 §5.5.
type QueuePair interface {
	// PostSend posts requests to the send queue with one doorbell and returns how many were taken. It
	// never waits for the peer. If these are fewer than len(wrs), the error is ErrQueueFull when the
	// queue has no room, otherwise what is wrong with wrs[n] or with the queue pair. Neither wrs nor,
	// for inline requests, their data is kept.
	PostSend(wrs []SendWR) (n int, err error)

	// PostRecv posts receive buffers. Each inbound Send takes the oldest one. It returns how many
	// were taken, as PostSend does.
	PostRecv(wrs []RecvWR) (n int, err error)

	// Poll moves completions to wc, oldest first, and returns their number. It never blocks.
	Poll(wc []Completion) int

	// Wait blocks until Poll would return something, or a Placer had news, or the queue pair has
	// failed (nil, as there is then flushed work to poll, or the error of Err once everything is
	// polled), or the deadline passes (os.ErrDeadlineExceeded), or Interrupt was called
	// (ErrInterrupted). The zero deadline means none. When several goroutines wait, one of them
	// drives, and hands over when it leaves.
	Wait(deadline time.Time) error

	// Drain blocks until every request on the send queue has left this host's hands, that is, until
	// its local completion; RDMA Reads count once their response has arrived. It returns what Wait
	// does, and nil once drained.
	Drain(deadline time.Time) error

	// Interrupt makes blocked calls of Wait and Drain return ErrInterrupted. Where none is blocked the
	// next call of each may do so.
	Interrupt()

	// RegisterMemory makes b reachable under a new STag with the rights of access. Without a remote
	// right the STag only serves local work requests. b belongs to the region until Deregister.
	RegisterMemory(b []byte, access Access) (MemoryRegion, error)

	// SetMaxSegment lets the queue pair send segments whose FPDU is up to n bytes, where the users of
	// both ends have agreed that the receiver takes them. By default an FPDU fits one TCP segment (RFC
	// 5044 §5.1). A transport that cannot do so returns an error that matches errors.ErrUnsupported.
	SetMaxSegment(n int) error

	Attributes() Attributes
	State() State
	LocalAddr() netip.AddrPort
	RemoteAddr() netip.AddrPort

	// Err returns why the queue pair left StateRTS: nil while it has not, a *TerminateError, ErrClosed
	// after Close, io.EOF after the peer's orderly end of the stream (its TCP FIN between two
	// messages), io.ErrUnexpectedEOF for one within a message, otherwise the failure of the connection
	// below.
	Err() error

	// Close ends the connection in order: what is on the send queue is sent, then the stream is
	// closed. It does not wait for that, but bounds it. Every waiting call returns, outstanding work
	// is flushed and the regions are gone. A second call returns ErrClosed.
	Close() error

	// Abort ends the connection at once by a reset. What was not sent yet is lost.
	Abort() error
}

// Attributes says what the two ends have negotiated and what the queue pair can do.
type Attributes struct {
	Device      string // name of the Device in use
	IRD, ORD    int    // negotiated limits of inbound and outbound RDMA Reads
	CRC         bool   // both directions carry and check CRC32C
	MaxSegment  int    // bytes of the largest FPDU sent at present
	MaxRecvSeg  int    // bytes of the largest FPDU that this end takes
	MPARevision int    // 1 or 2; 0 where the connection has none, or the transport does not know
	MaxInline   int    // bytes of the largest inline request; a software transport has no limit but the message's
	SendDepth   int
	RecvDepth   int

	// Immediate says that OpWriteImmediate can be used and that peers expect it in place of an RDMA
	// Write followed by a Send, as the users of InfiniBand and RoCE do. It is never set with iWARP.
	Immediate bool
}

// State is the state of a queue pair, as RFC 5040 §6 and the iWARP verbs name them.
type State uint8

const (
	StateIdle      State = iota // not connected yet
	StateRTS                    // ready to send: connected
	StateClosing                // closed here, still sending what was posted
	StateTerminate              // an error was found here or reported by the peer
	StateError                  // over
)

// String returns the name of the state in lower case.
func (s State) String() string {
	names := [...]string{"idle", "rts", "closing", "terminate", "error"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown state"
}
