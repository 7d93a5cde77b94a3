package iwarp_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// A pausedServer is a service whose process stands still: its socket listens, and nobody accepts.
type pausedServer struct {
	t      testing.TB
	config iwarp.ListenConfig
	addr   net.Addr
	raw    *net.TCPListener
}

// pause lets a server have one iWARP client if known is set, and stops it.
func pause(t testing.TB, policy iwarp.Offload, known bool) *pausedServer {
	t.Helper()
	iwarp.ForgetPeers()
	t.Cleanup(iwarp.ForgetPeers)
	s := &pausedServer{t: t, config: iwarp.ListenConfig{Offload: policy, PortSpace: &iwarp.PortSpace{}}}
	l := listen(t, s.config)
	s.addr = l.Addr()
	var served sync.WaitGroup
	served.Go(func() { echo(l) })
	if known {
		c := dial(t, l, iwarp.OffloadPrefer)
		require.Equal(t, "soft", describe(t, c).Transport)
		exchangeWithEcho(t, c, "hello")
		require.NoError(t, c.Close())
	}
	f, err := l.File()
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, l.Close())
	served.Wait()
	raw, err := net.FileListener(f)
	require.NoError(t, err)
	s.raw = raw.(*net.TCPListener)
	t.Cleanup(func() { _ = raw.Close() })
	return s
}

// resume makes the server go on with the clients that wait.
func (s *pausedServer) resume() {
	s.t.Helper()
	f, err := s.raw.File()
	require.NoError(s.t, err)
	defer f.Close()
	require.NoError(s.t, s.raw.Close())
	s.config.PortSpace = &iwarp.PortSpace{}
	_, err = s.config.PortSpace.Adopt(f)
	require.NoError(s.t, err)
	l, err := s.config.Listen(s.t.Context(), "tcp", s.addr.String())
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = l.Close() })
	go echo(l)
}

// works dials and wants an answer, over iWARP.
func (s *pausedServer) works(d *iwarp.Dialer) {
	s.t.Helper()
	c, err := d.Dial("tcp", s.addr.String())
	require.NoError(s.t, err)
	defer c.Close()
	require.NoError(s.t, c.SetDeadline(time.Now().Add(patience)))
	require.Equal(s.t, "soft", describe(s.t, c).Transport)
	exchangeWithEcho(s.t, c, "hello")
}

// TestPausedServer reaches a server by iWARP as soon as it is back, whatever dials met while it was
// not there.
func TestPausedServer(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadPrefer, iwarp.OffloadRequire} {
		for _, limit := range []time.Duration{0, 300 * time.Millisecond} {
			t.Run(policy.String()+" "+limit.String(), func(t *testing.T) {
				s := pause(t, policy, true)
				d := &iwarp.Dialer{Offload: iwarp.OffloadPrefer, Timeout: limit, HandshakeTimeout: 20 * time.Millisecond}
				var dials sync.WaitGroup
				for range 5 {
					dials.Go(func() {
						for range 3 {
							c, err := d.Dial("tcp", s.addr.String())
							if err == nil {
								_ = c.Close()
							}
						}
					})
				}
				dials.Wait()
				s.resume()
				d.HandshakeTimeout, d.Timeout = 0, 0
				s.works(d)
			})
		}
	}
}

// TestWaitsForPausedServer gives a server that has spoken iWARP before all the time there is.
func TestWaitsForPausedServer(t *testing.T) {
	for _, limit := range []time.Duration{0, patience} {
		t.Run(limit.String(), func(t *testing.T) {
			s := pause(t, iwarp.OffloadRequire, true)
			defer iwarp.SetAnswerSlack(time.Millisecond)()
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.works(&iwarp.Dialer{Offload: iwarp.OffloadPrefer, Timeout: limit})
			}()
			unknown := iwarp.Dialer{Offload: iwarp.OffloadPrefer}
			silent := silentServer(t)
			for range 3 {
				c, err := unknown.Dial("tcp", silent.Addr().String())
				require.NoError(t, err)
				require.Equal(t, iwarp.ReasonHandshakeTimeout, describe(t, c).Reason)
				require.NoError(t, c.Close())
			}
			s.resume()
			<-done
		})
	}
}

// TestFirstContactWithPausedServer checks that even a client that has never seen the server finds
// it by iWARP a moment later.
func TestFirstContactWithPausedServer(t *testing.T) {
	defer iwarp.SetAnswerSlack(time.Millisecond)()
	defer iwarp.SetPassingTTL(time.Millisecond)()
	s := pause(t, iwarp.OffloadRequire, false)
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer}
	for range 3 {
		c, err := d.Dial("tcp", s.addr.String())
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	s.resume()
	iwarp.BePatient() // once it is asked
	eventually(t, func() bool {
		c, err := d.Dial("tcp", s.addr.String())
		require.NoError(t, err)
		defer c.Close()
		return describe(t, c).Transport == "soft"
	}, "iwarp")
}

// TestServerHangsUp asks a server once more that has spoken iWARP before and hangs up, as one does
// that starts anew, and does not hold it against it.
func TestServerHangsUp(t *testing.T) {
	hangUps := map[string]func(*net.TCPConn){
		"reset": func(c *net.TCPConn) { resetConn(c, nil) },
		"end":   func(c *net.TCPConn) { _ = c.CloseWrite(); untilGone(c); _ = c.Close() },
	}
	test := func(name string, policy iwarp.Offload) {
		hangUp := hangUps[name]
		t.Run(name+"/"+policy.String(), func(t *testing.T) {
			s := pause(t, iwarp.OffloadRequire, true)
			// A reset makes two connections of one attempt, the second for MPA revision 1.
			times := map[string]int{"reset": 2, "end": 1}[name]
			var seen atomic.Int32
			resumed := make(chan struct{})
			go func() {
				defer close(resumed)
				for range times {
					c, err := s.raw.AcceptTCP()
					if err != nil {
						return
					}
					_, _ = c.Read(make([]byte, 512))
					seen.Add(1)
					hangUp(c)
				}
				s.resume()
			}()
			s.works(&iwarp.Dialer{Offload: policy})
			<-resumed
			require.EqualValues(t, times, seen.Load())
		})
	}
	for name := range hangUps {
		test(name, iwarp.OffloadPrefer)
		test(name, iwarp.OffloadRequire)
	}
}

// TestServerHangsUpOften asks a server that has spoken iWARP before as long as there is time, where
// there is nothing but iWARP to have: one with too many clients at once hangs up on some of them.
func TestServerHangsUpOften(t *testing.T) {
	defer iwarp.SetPauses(time.Millisecond)()
	hangUp := func(s *pausedServer) bool {
		c, err := s.raw.AcceptTCP()
		if err == nil {
			_, _ = c.Read(make([]byte, 512))
			resetConn(c, nil)
		}
		return err == nil
	}
	t.Run("and takes it then", func(t *testing.T) {
		s := pause(t, iwarp.OffloadRequire, true)
		resumed := make(chan struct{})
		go func() {
			defer close(resumed)
			for range 20 {
				hangUp(s)
			}
			s.resume()
		}()
		s.works(&iwarp.Dialer{Offload: iwarp.OffloadRequire})
		<-resumed
	})
	for name, d := range map[string]iwarp.Dialer{
		"until the dial's end": {Timeout: 200 * time.Millisecond},
		"for HandshakeTimeout": {HandshakeTimeout: 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s := pause(t, iwarp.OffloadRequire, true)
			go func() {
				for hangUp(s) {
				}
			}()
			d.Offload = iwarp.OffloadRequire
			_, err := d.Dial("tcp", s.addr.String())
			require.Error(t, err)
		})
	}
}

// TestHangsUpForGood falls back where a server has spoken iWARP before and has stopped to, and says
// why.
func TestHangsUpForGood(t *testing.T) {
	s := pause(t, iwarp.OffloadAuto, true)
	go func() {
		for {
			c, err := s.raw.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 512)
				if n, err := c.Read(b); err == nil && string(b[:min(n, len(mpaKey))]) != mpaKey {
					_, _ = c.Write(b[:n])
					untilGone(c)
				}
			}()
		}
	}()
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer}
	for range 3 {
		c, err := d.Dial("tcp", s.addr.String())
		require.NoError(t, err)
		require.Equal(t, iwarp.ReasonNotIWARP, describe(t, c).Reason)
		exchangeWithEcho(t, c, "hello")
		require.NoError(t, c.Close())
	}
}
