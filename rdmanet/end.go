package rdmanet

import "github.com/rdmanet/iwarp/rdmanet/internal/wire"

// An end is how far this end, or the peer, has gone in ending the stream. It never goes back.
type end uint8

const (
	endOpen         end = iota // it writes
	endFinished                // it writes no more, and has said SHUTDOWN
	endDisconnected            // it does not read either, and has said DISCONNECT
)

// finished reports whether nothing more is written.
func (e end) finished() bool { return e >= endFinished }

// disconnected reports whether nothing more is read, either.
func (e end) disconnected() bool { return e == endDisconnected }

// hear records a word of the peer about its end.
func (e *end) hear(ctrl uint32) {
	switch ctrl {
	case wire.CtrlShutdown:
		*e = max(*e, endFinished)
	case wire.CtrlDisconnect:
		*e = endDisconnected
	}
}

// finish returns how far e is once this end writes no more and, if reads is false, reads no more,
// and whether the peer must be told. With both the connection has ended, whatever reads says.
func (e end) finish(peer end, reads, both bool) (to end, tell bool) {
	to = endFinished
	if both || !reads || peer.finished() {
		to = endDisconnected
	}
	switch {
	case e.disconnected(), peer.disconnected():
		tell = false
	case e.finished():
		tell = both && !peer.finished() // otherwise the peer has ended after it was told of our end
	default:
		tell = true
	}
	return max(e, to), tell
}

// word returns what the peer is told about e.
func (e end) word() wire.Word {
	if e.disconnected() {
		return wire.MakeWord(wire.OpCtrl, wire.CtrlDisconnect)
	}
	return wire.MakeWord(wire.OpCtrl, wire.CtrlShutdown)
}
