package iwarp_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestManyCallsOfAccept lets several goroutines accept while the deadline keeps changing, from
// clients most of which say nothing or half of something. Nobody who has said something is lost.
func TestManyCallsOfAccept(t *testing.T) {
	const acceptors, clients = 4, 100
	const changes = 1000 // after which a machine that is too busy to accept between two has its chance
	ends := map[string]func(t *testing.T, l *iwarp.Listener){
		"close": func(t *testing.T, l *iwarp.Listener) { require.NoError(t, l.Close()) },
		"drain": func(t *testing.T, l *iwarp.Listener) { require.NoError(t, l.Drain(t.Context())) },
		"drain and close": func(_ *testing.T, l *iwarp.Listener) {
			var both sync.WaitGroup
			both.Go(func() { _ = l.Drain(t.Context()) })
			_ = l.Close()
			both.Wait()
		},
	}
	for _, policy := range policies {
		for name, end := range ends {
			t.Run(policy.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				l := listen(t, iwarp.ListenConfig{Offload: policy, FirstByteTimeout: 10 * time.Millisecond})
				var servers, conns, dials, noise sync.WaitGroup
				for range acceptors {
					servers.Go(func() {
						for {
							c, err := l.Accept()
							switch {
							case err == nil:
								conns.Go(func() {
									_, _ = io.Copy(c, c)
									_ = c.Close()
								})
							case errors.Is(err, os.ErrDeadlineExceeded):
							default:
								if !errors.Is(err, net.ErrClosed) {
									t.Error(err)
								}
								return
							}
						}
					})
				}
				stop := make(chan struct{})
				noise.Go(func() {
					defer func() { _ = l.SetDeadline(time.Time{}) }()
					tick := time.NewTicker(time.Millisecond)
					defer tick.Stop()
					for range changes {
						select {
						case <-stop:
							return
						case <-tick.C:
							_ = l.SetDeadline(time.Now().Add(time.Duration(rand.IntN(3000)-300) * time.Microsecond))
						}
					}
				})
				for i := range clients {
					dials.Go(func() { visit(t, l, policy, i) })
				}
				dials.Wait()
				close(stop)
				noise.Wait()
				end(t, l)
				servers.Wait()
				_ = l.Close()
				conns.Wait()
				s := l.Stats()
				require.Zero(t, s.HalfOpen+s.Ready)
			})
		}
	}
}

// visit is a client of one kind or another. Every fourth should be served.
func visit(t *testing.T, l net.Listener, policy iwarp.Offload, kind int) {
	d := iwarp.Dialer{Offload: iwarp.OffloadNever, Timeout: 2 * patience, HandshakeTimeout: patience}
	if policy == iwarp.OffloadRequire && kind%4 == 0 || policy != iwarp.OffloadNever && kind%8 == 0 {
		d.Offload = iwarp.OffloadRequire
	}
	c, err := d.Dial("tcp", l.Addr().String())
	for late := (*iwarp.OffloadError)(nil); errors.As(err, &late) && late.Reason == iwarp.ReasonNotIWARP; {
		c, err = d.Dial("tcp", l.Addr().String()) // it asked when its patience with silence was over
	}
	if !noError(t, err) {
		return
	}
	defer c.Close()
	switch kind % 4 {
	case 0:
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err := io.WriteString(c, "hello")
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 5))
		}
		noError(t, err)
	case 1: // a port scanner
		_ = c.(*net.TCPConn).SetLinger(0)
	case 2: // a part of the key, then something else
		_, _ = io.WriteString(c, mpaKey[:1+rand.IntN(len(mpaKey)-1)])
		_ = c.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(30)) * time.Millisecond))
		_, _ = c.Read(make([]byte, 1))
		_, _ = io.WriteString(c, mpaKey)
	case 3: // silent
		_ = c.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(30)) * time.Millisecond))
		_, _ = c.Read(make([]byte, 1))
	}
}
