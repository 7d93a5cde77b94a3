package iwarp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

var otherPeer = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)} // is of this host, on Linux

// hogs connects many clients at an address of their own, which say something. It returns those that
// were not reset at once.
func hogs(t *testing.T, l net.Listener, n int, say string) (all []net.Conn) {
	t.Helper()
	d := net.Dialer{LocalAddr: otherPeer}
	for range n {
		c, err := d.Dial("tcp", l.Addr().String())
		if errors.Is(err, syscall.ECONNRESET) {
			continue
		}
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		_, _ = io.WriteString(c, say)
		all = append(all, c)
	}
	return all
}

// served tries whether a client at that address is served by an echo.
func served(l net.Listener, from net.Addr, policy iwarp.Offload) bool {
	d := iwarp.Dialer{LocalAddr: from, Offload: policy, Timeout: patience}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(c, "x")
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	return err == nil
}

// TestMaxConnsPerPeer has one peer try for more connections than it may have, whatever they speak,
// while another is served. What the peer closes makes room.
func TestMaxConnsPerPeer(t *testing.T) {
	const most, many = 3, 20
	for name, tc := range map[string]struct {
		policy iwarp.Offload
		say    string
	}{
		"plain TCP":       {iwarp.OffloadAuto, "hello"},
		"no iWARP at all": {iwarp.OffloadNever, "hello"},
		"silent":          {iwarp.OffloadAuto, ""},
		"half a request":  {iwarp.OffloadRequire, string(streamRequest(1)[:30])},
		"iWARP":           {iwarp.OffloadRequire, string(streamRequest(64 << 10))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, iwarp.ListenConfig{Offload: tc.policy, MaxConnsPerPeer: most, FirstByteTimeout: time.Hour, HandshakeTimeout: time.Hour})
			var server sync.WaitGroup
			server.Go(func() { echo(l) })
			all := hogs(t, l, many, tc.say)
			for _, c := range all[most:] {
				_, err := io.Copy(io.Discard, c)
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			}
			require.EqualValues(t, many-most, l.Stats().Limited)
			policy := iwarp.OffloadRequire
			if tc.policy == iwarp.OffloadNever {
				policy = iwarp.OffloadNever
			}
			for range many {
				eventually(t, func() bool { return served(l, nil, policy) }, "another peer is served")
			}
			for _, c := range all[:most] {
				require.NoError(t, c.Close())
			}
			eventually(t, func() bool { return served(l, otherPeer, policy) }, "there is room again")
			require.NoError(t, l.Close())
			server.Wait()
		})
	}
}

// shares has what the clients of a peer can be, with policies of both ends.
func shares(t *testing.T, most int, test func(t *testing.T, l *iwarp.Listener, d *iwarp.Dialer)) {
	for name, tc := range map[string]struct {
		listener, dialer iwarp.Offload
		device           bool
	}{
		"never":             {iwarp.OffloadNever, iwarp.OffloadNever, false},
		"auto, plain TCP":   {iwarp.OffloadAuto, iwarp.OffloadNever, false},
		"auto, iWARP":       {iwarp.OffloadAuto, iwarp.OffloadRequire, false},
		"prefer, plain TCP": {iwarp.OffloadPrefer, iwarp.OffloadNever, false},
		"prefer, iWARP":     {iwarp.OffloadPrefer, iwarp.OffloadRequire, false},
		"require":           {iwarp.OffloadRequire, iwarp.OffloadRequire, false},
		"device":            {iwarp.OffloadDevice, iwarp.OffloadDevice, true},
	} {
		t.Run(name, func(t *testing.T) {
			lc := iwarp.ListenConfig{Offload: tc.listener, MaxConnsPerPeer: most}
			d := &iwarp.Dialer{Offload: tc.dialer, Timeout: patience}
			if tc.device {
				lc.Transports = []transport.Transport{newNIC()}
				d.Transports = lc.Transports
			}
			test(t, listen(t, lc), d)
		})
	}
}

// meetShare connects, and has both ends speak.
func meetShare(t *testing.T, l *iwarp.Listener, d *iwarp.Dialer, next func() net.Conn) (c, s net.Conn) {
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, "x")
	require.NoError(t, err)
	s = next()
	_, err = io.ReadFull(s, make([]byte, 1))
	require.NoError(t, err)
	return c, s
}

// TestMaxConnsPerPeerOfKept counts what the program holds, even if the peer has closed.
func TestMaxConnsPerPeerOfKept(t *testing.T) {
	shares(t, 1, func(t *testing.T, l *iwarp.Listener, d *iwarp.Dialer) {
		next := acceptEach(t, l)
		c, s := meetShare(t, l, d, next)
		require.NoError(t, c.Close())
		_, err := s.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		c, err = d.Dial("tcp", l.Addr().String())
		if err == nil { // the kernel has taken it
			defer c.Close()
			require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
			_, err = c.Read(make([]byte, 1))
		}
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NotZero(t, l.Stats().Limited)
		require.NoError(t, s.Close())
		iwarp.ForgetPeer(l.Addr())
		meetShare(t, l, d, next)
	})
}

// TestMaxConnsPerPeerOfClosed does not count what the program has closed, even if the peer has not.
func TestMaxConnsPerPeerOfClosed(t *testing.T) {
	const rounds = 20
	shares(t, 1, func(t *testing.T, l *iwarp.Listener, d *iwarp.Dialer) {
		next := acceptEach(t, l)
		for range rounds {
			c, s := meetShare(t, l, d, next)
			_, err := io.WriteString(s, "answer")
			require.NoError(t, err)
			require.NoError(t, s.Close())
			b, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, "answer", string(b))
		}
		require.Zero(t, l.Stats().Limited)
	})
}

// TestSurplusIsTold refuses a client that has asked for iWARP when it is taken, in words, and tells
// the Logger once.
func TestSurplusIsTold(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			var b logbook
			l := listen(t, iwarp.ListenConfig{Offload: policy, MaxConnsPerPeer: 1, Logger: b.logger()})
			c, s := meet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
			var refused []net.Conn
			for range 3 {
				r := dialTCP(t, l)
				require.NoError(t, r.SetDeadline(time.Now().Add(patience)))
				_, err := r.Write(streamRequest(64 << 10))
				require.NoError(t, err)
				refused = append(refused, r)
			}
			next := acceptEach(t, l)
			for _, r := range refused {
				reply, err := io.ReadAll(r)
				require.NoError(t, err)
				require.Equal(t, "MPA ID Rep Frame", string(reply[:16]))
				require.NotZero(t, reply[16]&0x20, "it is refused")
			}
			told := func() int {
				return b.count("level=WARN", `"iwarp: client over a limit refused"`, iwarp.ReasonLimit.String())
			}
			eventually(t, func() bool { return told() == 1 }, "it is told of")
			require.EqualValues(t, len(refused), l.Stats().Limited)
			require.Zero(t, l.Stats().HandshakeFailed)
			exchange(t, c, s, "hello")
			require.NoError(t, s.Close())
			exchange(t, dial(t, l, iwarp.OffloadRequire), next(), "hello")
			require.Equal(t, 1, told())
		})
	}
}

// TestMaxConnsPerPeerOfDropped does not count what the program has dropped, once it is garbage.
func TestMaxConnsPerPeerOfDropped(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadNever, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{Offload: policy, MaxConnsPerPeer: 1})
			dropped := make(chan error)
			go func() {
				_, err := l.Accept()
				dropped <- err
			}()
			dial(t, l, policy)
			require.NoError(t, <-dropped)
			var server sync.WaitGroup
			server.Go(func() { echo(l) })
			eventually(t, func() bool {
				runtime.GC()
				return served(l, nil, policy)
			}, "there is room again")
			require.NoError(t, l.Close())
			server.Wait()
		})
	}
}

// TestMaxConnRatePerPeer has one peer connect as fast as it can.
func TestMaxConnRatePerPeer(t *testing.T) {
	const rate, many = 2, 50
	l := listen(t, iwarp.ListenConfig{MaxConnRatePerPeer: rate})
	var server sync.WaitGroup
	server.Go(func() { echo(l) })
	start := time.Now()
	in := 0
	for _, c := range hogs(t, l, many, "x") {
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			in++
		} else {
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	}
	require.GreaterOrEqual(t, in, rate)
	require.LessOrEqual(t, in, rate+int(time.Since(start).Seconds()*rate))
	require.EqualValues(t, many-in, l.Stats().Limited)
	exchangeWithEcho(t, dial(t, l, iwarp.OffloadRequire), "hello")
	require.NoError(t, l.Close())
	server.Wait()
}

// TestMaxConnsPerPeerOfDevice refuses a device's client that is one too many, and says why.
func TestMaxConnsPerPeerOfDevice(t *testing.T) {
	n := newNIC()
	transports := []transport.Transport{n}
	l := listen(t, iwarp.ListenConfig{Transports: transports, MaxConnsPerPeer: 1})
	next := acceptEach(t, l)
	d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: transports, Timeout: patience}
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	s := next()
	_, err = d.Dial("tcp", l.Addr().String())
	require.ErrorContains(t, err, "peer declined: limit")
	require.EqualValues(t, 1, l.Stats().Limited)
	require.Zero(t, l.Stats().HandshakeFailed)
	require.NoError(t, c.Close())
	require.NoError(t, s.Close())
	iwarp.ForgetPeer(l.Addr())
	c, err = d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	exchange(t, c, next(), "hello")
	require.NoError(t, c.Close())
}

// slowNIC is a device whose set-ups take until goOn is closed.
type slowNIC struct {
	*nic
	begun chan struct{} // told of each
	goOn  chan struct{}
}

type slowListener struct {
	transport.Listener
	n slowNIC
}

type slowRequest struct {
	transport.Request
	n slowNIC
}

func (n slowNIC) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	l, err := n.nic.Listen(ctx, local, o)
	return slowListener{l, n}, err
}

func (l slowListener) Accept(ctx context.Context) (transport.Request, error) {
	r, err := l.Listener.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return slowRequest{r, l.n}, nil
}

func (r slowRequest) Accept(ctx context.Context, private []byte) error {
	r.n.begun <- struct{}{}
	select {
	case <-r.n.goOn:
	case <-ctx.Done():
	}
	return r.Request.Accept(ctx, private)
}

// TestSurplusCutsNobody refuses a device's client that is one too many while another is set up, for
// which it is the only one that there may be at a time.
func TestSurplusCutsNobody(t *testing.T) {
	n := slowNIC{newNIC(), make(chan struct{}, 1), make(chan struct{})}
	transports := []transport.Transport{n}
	l := listen(t, iwarp.ListenConfig{Transports: transports, MaxHalfOpen: 1, MaxConnsPerPeer: 1})
	next := acceptEach(t, l)
	d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: transports, Timeout: patience}
	var c net.Conn
	var first error
	var honest sync.WaitGroup
	honest.Go(func() { c, first = d.Dial("tcp", l.Addr().String()) })
	<-n.begun
	_, err := d.Dial("tcp", l.Addr().String())
	require.ErrorContains(t, err, "limit")
	close(n.goOn)
	honest.Wait()
	require.NoError(t, first)
	exchange(t, c, next(), "hello")
	require.NoError(t, c.Close())
	require.Zero(t, l.Stats().Overflowed)
	require.EqualValues(t, 1, l.Stats().Limited)
}

// TestMaxHalfOpen keeps to the bound that is configured, whoever the clients are and whatever they
// have said, and serves honest ones meanwhile.
func TestMaxHalfOpen(t *testing.T) {
	const most, many = 4, 20
	for name, tc := range map[string]struct {
		say  string
		stay int
	}{
		"silent":         {"", most / 2},
		"half a request": {mpaKey, most},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{MaxHalfOpen: most, FirstByteTimeout: time.Hour, HandshakeTimeout: time.Hour})
			next := acceptEach(t, l)
			hogs(t, l, many, tc.say)
			eventually(t, func() bool {
				s := l.Stats()
				return s.Overflowed == uint64(many-tc.stay) && s.HalfOpen == tc.stay
			}, "the oldest give way")
			for range most {
				c := dial(t, l, iwarp.OffloadRequire)
				s := next()
				for ; describe(t, s).Transport == "tcp"; s = next() { // had to give way
				}
				exchange(t, c, s, "hello")
			}
			require.LessOrEqual(t, l.Stats().HalfOpen, most)
		})
	}
}
