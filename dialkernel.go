package iwarp

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/internal/sniff"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// viaKernel dials TCP and makes an iWARP connection of it, or of one to another address of the
// name, or falls back to another TCP connection where the policy allows that.
func (a *dialing) viaKernel(ctx context.Context, t kernelTransport) (net.Conn, error) {
	if err := a.resolve(ctx); err != nil {
		return nil, err
	}
	k, err := a.dialKernel(ctx, t, a.address)
	if err != nil {
		return nil, err
	}
	if why, ok := k.turn(ctx); !ok {
		return k.orInstead(ctx, why)
	}
	a.ahead = k.expected()
	c, err := k.speak(ctx)
	if err == nil {
		return c, nil
	}
	if c := k.next(ctx, err); c != nil {
		return c, nil
	}
	if end := neterr.Over(ctx); end != nil {
		return nil, a.fail(k.remote, neterr.OfContext(end))
	}
	if a.policy == OffloadRequire {
		why := whyNot(err)
		return nil, a.fail(k.remote, &why)
	}
	return k.fallBack(ctx, err)
}

// kernelDial is a dial through TCP connections of the kernel to one address.
type kernelDial struct {
	*dialing
	transport kernelTransport
	tcp       *net.TCPConn
	took      time.Duration // to connect
	measured  time.Duration // see trip
	remote    *net.TCPAddr
	peer      peer
	spoke     bool   // the peer has spoken iWARP before
	asked     func() // ends the turn to ask the peer
	other     bool   // another address of the name may speak iWARP
	wait      *answerWait
	present   *net.TCPConn // tcp, or the one that redial has made
	asks      redirect.Connector
}

func (a *dialing) dialKernel(ctx context.Context, t kernelTransport, address string) (*kernelDial, error) {
	tcp, took, err := a.timed(ctx, address)
	if err != nil {
		return nil, err
	}
	k := &a.first
	if k.dialing != nil {
		k = new(kernelDial)
	}
	k.dialing, k.transport = a, t
	k.use(tcp, took)
	return k, nil
}

func (k *kernelDial) use(tcp *net.TCPConn, took time.Duration) {
	k.tcp, k.took, k.measured, k.remote = tcp, took, 0, tcp.RemoteAddr().(*net.TCPAddr)
	k.peer = peer{k.transport.Name(), netaddr.Unmap(k.remote.AddrPort())}
}

// trip returns the round trip to the peer. It is measured only where it matters, and before the
// connection is closed.
func (k *kernelDial) trip() time.Duration {
	if k.measured == 0 {
		k.measured = tripOf(k.tcp, k.took)
	}
	return k.measured
}

// turn reports whether the peer should be asked, and otherwise why not. If so, speak must follow.
func (k *kernelDial) turn(ctx context.Context) (OffloadError, bool) {
	t := k.dialing.turn(ctx, k.peer, k.patience)
	k.spoke, k.asked, k.other = t.spoke, t.end, t.other
	if t.end != nil && !k.hasTime(ctx, 1) {
		t.end()
		return OffloadError{ReasonHandshakeTimeout, errNoTime}, false
	}
	return t.why, t.end != nil
}

// patience is how long the connection may wait for another dial that asks the peer.
func (k *kernelDial) patience() time.Duration {
	return min(turnLimit, turnSlack+turnTrips*k.trip())
}

// speak makes an iWARP connection. Where a peer that has spoken iWARP before hangs up, as one that
// is restarting does, or has too many clients at once, it is asked again.
func (k *kernelDial) speak(ctx context.Context) (net.Conn, error) {
	defer k.asked()
	first := time.Now()
	for tries := 0; ; tries++ {
		began := time.Now()
		speaking.add(k.peer, 1)
		c, err := k.upgrade(ctx)
		speaking.add(k.peer, -1)
		if err == nil {
			peers.spoke(k.peer, time.Now())
			return remember(c, Info{Transport: k.transport.Name(), Device: c.Attributes().Device, Offloaded: k.transport.Offloads()}, k.origin), nil
		}
		if neterr.Over(ctx) != nil {
			return nil, err
		}
		if k.policy != OffloadRequire {
			k.learn(k.peer, err, proves(err), began)
		}
		if !errors.Is(err, transport.ErrNotIWARP) || proves(err) || !k.asksAgain(ctx, tries, time.Since(first)) {
			return nil, err
		}
		tcp, took, failed := k.timed(ctx, k.remote.String())
		if failed != nil {
			return nil, err
		}
		k.use(tcp, took)
	}
}

// pauses come before each time that a dial asks again for which there is nothing but iWARP, the
// last one from then on.
var pauses = [...]time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}

// asksAgain reports, after a pause, whether to ask a peer again that has hung up, asked being how
// long it has been asked. Where there is plain TCP to have, that is done once. Otherwise a dial is
// as patient as with a full queue of the kernel, until its end or for HandshakeTimeout; of those to
// a peer that has hung up on many at once, not all come back at once.
func (k *kernelDial) asksAgain(ctx context.Context, tries int, asked time.Duration) bool {
	if k.policy != OffloadRequire {
		return k.spoke && tries == 0 && k.hasTime(ctx, 2)
	}
	limit := k.handshakeLimit()
	if deadline, ok := ctx.Deadline(); ok {
		all := asked + time.Until(deadline)
		if k == &k.first && k.further() > 0 {
			all /= 2 // the other addresses of the name have the rest, and come with their share
		}
		limit = min(limit, all)
	}
	for began := time.Now(); ; tries++ {
		length := pauses[min(tries, len(pauses)-1)]
		length += rand.N(length)
		asked := asked + time.Since(began) + length
		if asked > limit || !waitFor(ctx, length) {
			return false
		}
		// That it speaks iWARP may be known from another dial, or soon will be.
		known := peers.speaks(k.peer, time.Now())
		if known || asked > defaultFallbackTimeout || !speaking.to(k.peer) {
			return known
		}
	}
}

// speaking is how many dials are asking each peer at present.
var speaking dialCounts

type dialCounts struct {
	mu sync.Mutex
	m  map[peer]int
}

func (s *dialCounts) add(p peer, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[peer]int)
	}
	if s.m[p] += n; s.m[p] == 0 {
		delete(s.m, p)
	}
}

func (s *dialCounts) to(p peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[p] > 0
}

// waitFor waits for d, and reports whether ctx has not ended before.
func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// learn remembers a failure as far as it may say something about the peer.
func (a *dialing) learn(p peer, err error, proof bool, began time.Time) {
	why, most := whyNot(err), maxTTL
	if why.Reason == ReasonHandshakeTimeout {
		most = a.waited.remembered()
	}
	if most > 0 {
		peers.learn(p, why, proof, most, began, time.Now())
	}
}

// fallBack dials plain TCP, as the iWARP connection has failed with cause.
func (k *kernelDial) fallBack(ctx context.Context, cause error) (net.Conn, error) {
	why := whyNot(cause)
	tcp, err := k.kernel(ctx, k.remote.String())
	if err != nil {
		return nil, err
	}
	if k.spoke && !proves(cause) && sniff.HungUp(tcp) {
		_ = tcp.Close()
		return nil, k.fail(k.remote, why.Err)
	}
	return rememberTCP(tcp, plainInfo(why.Reason, why.Err), k.origin), nil
}

// upgrade makes an iWARP connection of the TCP connection, which is closed after an error.
func (k *kernelDial) upgrade(ctx context.Context) (*rdmanet.Conn, error) {
	trip := k.took // which is enough for a dial that does not depend on how long an answer takes
	if k.policy != OffloadRequire {
		trip = k.trip()
	}
	k.wait = k.answer(ctx, k.tcp, trip, k.spoke)
	defer k.wait.stop()
	defer assistDial(k.tcp).stop()
	k.forNext(k.tcp)
	k.present = k.tcp
	c, err := k.streamBy(&k.wait.Context)
	if err != nil {
		_ = k.present.Close()
		return nil, inTime(ctx, k.wait, err)
	}
	if hasPort(k.LocalAddr) {
		_ = k.present.SetLinger(-1)
	}
	return c, nil
}

// forNext has a connection that fails leave nothing behind: what follows may have to use the same
// pair of addresses, which TIME_WAIT would forbid.
func (k *kernelDial) forNext(c *net.TCPConn) {
	if hasPort(k.LocalAddr) {
		_ = c.SetLinger(0)
	}
}

// redial makes another connection to the peer, in place of the one that it has reset.
func (k *kernelDial) redial(ctx context.Context) (*net.TCPConn, error) {
	_ = k.present.Close()
	again, err := k.kernel(ctx, k.remote.String())
	if err != nil {
		return nil, err
	}
	k.present = again
	k.wait.use(again)
	k.forNext(again)
	return again, nil
}

func (k *kernelDial) streamBy(ctx context.Context) (*rdmanet.Conn, error) {
	connector, err := k.transport.Client(k.tcp, nil)
	if err != nil {
		return nil, err
	}
	if r, ok := connector.(transport.Redialer); ok {
		r.SetRedial(k.redial)
	}
	k.asks = redirect.Connector{Connector: connector}
	return k.stream(ctx, &k.asks)
}

// stream sets up the stream over the connection in the making that k has.
func (d *Dialer) stream(ctx context.Context, k *redirect.Connector) (*rdmanet.Conn, error) {
	c, err := rdmanet.Client(ctx, k, buffered(d.ReadBuffer, d.ReadBudget))
	if err != nil {
		_ = k.Close()
		return nil, err
	}
	return c, nil
}

// isTCPAddr reports whether a connection can come from a.
func isTCPAddr(a net.Addr) bool {
	_, ok := a.(*net.TCPAddr)
	return ok || a == nil
}

func hasPort(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t != nil && t.Port != 0
}
