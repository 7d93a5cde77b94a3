package iwarp

import (
	"context"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
)

// turnSlack is how long a dial waits for another one that asks the same peer, beside turnTrips
// times what it took to connect, which on a busy host is more than a round trip; turnLimit is the
// most. That is less than a Listener leaves to a silent client for sure.
var turnSlack, turnLimit = 10 * time.Millisecond, 80 * time.Millisecond

// turnTrips are for a request and its answer, and one of them to spare.
const turnTrips = 2

// A turn is a dial's to ask a peer, of which nothing may be known: such a one is asked by one dial
// at a time.
type turn struct {
	end   func() // to be called once the answer was learned; nil if the peer is not to be asked
	why   OffloadError
	spoke bool // the peer has spoken iWARP before
	other bool // another address of the name may speak it
}

// turn decides whether p is to be asked. Where another dial asks it, it waits up to patience to
// learn the answer.
func (a *dialing) turn(ctx context.Context, p peer, patience time.Duration) turn {
	var late *time.Timer
	for {
		known := peers.recall(p, time.Now())
		spoke := !known.spoke.IsZero()
		switch {
		case known.isMute() && a.policy != OffloadRequire:
			return turn{why: known.why, other: known.other.addr.IsValid()}
		case spoke, a.policy == OffloadRequire:
			return turn{end: func() {}, spoke: spoke}
		}
		end, other := peers.ask(p)
		if end != nil {
			return turn{end: end}
		}
		if late == nil {
			late = time.NewTimer(patience)
			defer late.Stop()
		}
		select {
		case <-other:
		case <-late.C:
			return turn{why: OffloadError{Reason: ReasonAsking}}
		case <-ctx.Done():
			return turn{why: OffloadError{Reason: ReasonAsking}}
		}
	}
}

// mute returns why the peer at an address in numbers does not speak iWARP in software, if that is
// known. It is what turn would find out after the connection was made.
func (a *dialing) mute() (OffloadError, bool) {
	addr, err := netip.ParseAddrPort(a.address)
	if err != nil || a.software == nil {
		return OffloadError{}, false
	}
	return peers.lookup(peer{a.software.Name(), netaddr.Unmap(addr)}, time.Now())
}
