package faults

import (
	"flag"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

var steps = flag.Bool("steps", false, "set the clock of the machine, and back, as in a virtual machine that is for it")

// setClock moves the clock of the machine.
func setClock(t *testing.T, by time.Duration) {
	t.Helper()
	now := unix.NsecToTimeval(time.Now().Add(by).UnixNano())
	require.NoError(t, unix.Settimeofday(&now))
}

// TestClockSteps sets the clock while calls wait for their deadlines. They last as long as they
// should, connections go on, and a peer that says nothing is given up when its time is over.
func TestClockSteps(t *testing.T) {
	if !*steps {
		t.Skip("run with -steps on a machine whose clock may be set")
	}
	const wait = 300 * time.Millisecond
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			s := serve(t, policy)
			c := s.connected()
			for _, by := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
				lasts := func(f func() error) {
					t.Helper()
					begin := time.Now()
					ended := make(chan error, 1)
					go func() { ended <- f() }()
					setClock(t, by)
					require.ErrorIs(t, <-ended, os.ErrDeadlineExceeded)
					require.GreaterOrEqual(t, time.Since(begin), wait)
					require.Less(t, time.Since(begin), hang)
					setClock(t, -by)
				}
				require.NoError(t, c.SetReadDeadline(time.Now().Add(wait)))
				lasts(func() error { _, err := c.Read(make([]byte, 1)); return err })
				if policy == iwarp.OffloadRequire {
					d := iwarp.Dialer{Offload: policy, HandshakeTimeout: wait, Transports: s.d.Transports}
					lasts(func() error { _, err := d.Dial("tcp", silent.Addr().String()); return err })
				}
				setClock(t, by)
				s.works(c)
				require.NoError(t, s.connected().Close())
				setClock(t, -by)
			}
			require.NoError(t, c.Close())
		})
	}
}
