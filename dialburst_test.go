package iwarp_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/limits"
)

// TestManyDialsAtOnce lets more clients dial at once than a listener waits for the first bytes of.
func TestManyDialsAtOnce(t *testing.T) {
	dials := 2000
	switch {
	case raceEnabled:
		dials = 200 // or else some would take longer than a handshake may
	case testing.Short():
		dials = iwarp.MaxSilent + 100
	}
	dials = min(dials, limits.Descriptors()/4) // both ends are here
	const limit = 2 * time.Minute              // for all of them, on a machine that is busy
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			iwarp.ForgetPeers()
			l := listen(t, iwarp.ListenConfig{Offload: policy, FirstByteTimeout: limit, HandshakeTimeout: limit})
			go echo(l)
			begin := make(chan struct{})
			var wg sync.WaitGroup
			for range dials {
				wg.Go(func() {
					<-begin
					d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: limit, HandshakeTimeout: limit}
					c, err := d.Dial("tcp", l.Addr().String())
					if !noError(t, err) {
						return
					}
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(limit))
					if _, err = c.Write([]byte("x")); err == nil {
						_, err = c.Read(make([]byte, 1))
					}
					noError(t, err)
				})
			}
			close(begin)
			wg.Wait()
		})
	}
}

// TestSilentFlood has a listener serve who dials while others keep all places for silent clients
// taken, and come back whenever they have lost theirs.
func TestSilentFlood(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{Offload: policy, FirstByteTimeout: time.Minute})
			go echo(l)
			var flood sync.WaitGroup
			var over atomic.Bool
			for range iwarp.MaxSilent + 100 {
				flood.Go(func() {
					for !over.Load() {
						c, err := net.Dial("tcp", l.Addr().String())
						if err != nil {
							return
						}
						_ = c.SetReadDeadline(time.Now().Add(time.Second))
						_, _ = c.Read(make([]byte, 1))
						resetConn(c.(*net.TCPConn), nil)
					}
				})
			}
			eventually(t, func() bool { return l.Stats().Overflowed > 0 }, "somebody has had to give way")
			for range 5 {
				exchangeWithEcho(t, dial(t, l, iwarp.OffloadRequire), "hello")
			}
			over.Store(true)
			flood.Wait()
		})
	}
}
