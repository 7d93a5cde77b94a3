package soft

import "github.com/rdmanet/iwarp/transport/internal/wait"

const (
	turnFPDUs = 512 // that are handled without waiting for the peer before others get their turn
	turnIdle  = 64  // the same for those that bring nothing, before the next ones have to wait
)

// A turn counts what a connection has handled since it last had to wait for the peer. A peer that
// sends small FPDUs faster than they are handled would otherwise keep a processor to itself, above
// all with empty FPDUs, of which it may send any number. These are handled so slowly that TCP stops
// the peer.
type turn struct {
	fpdus uint16
	idle  uint16 // of which empty Writes and RDMA Reads
}

func (t *turn) over() bool { return t.pause() != wait.NoPause }

// pause returns how the next turn is kept from coming at once.
func (t *turn) pause() wait.Pause {
	switch {
	case t.idle >= turnIdle:
		return wait.Back
	case t.fpdus >= turnFPDUs:
		return wait.Yield
	}
	return wait.NoPause
}

// end ends t and returns its pause, if it is over.
func (t *turn) end() wait.Pause {
	p := t.pause()
	if p != wait.NoPause {
		*t = turn{}
	}
	return p
}
