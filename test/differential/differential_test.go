package differential

import (
	"flag"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

var (
	schedules = flag.Int("schedules", 30, "how many random schedules to run over each path")
	first     = flag.Uint64("first", 1, "the seed of the first schedule")
)

func TestMain(m *testing.M) { leak.Main(m) }

// A path makes pairs of ends.
type path struct {
	l    net.Listener
	dial func() (net.Conn, error)
}

func newPath(t *testing.T, policy iwarp.Offload, transports ...transport.Transport) *path {
	l, err := (&iwarp.ListenConfig{Transports: transports}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	d := &iwarp.Dialer{Offload: policy, Transports: transports}
	return &path{l, func() (net.Conn, error) { return d.Dial("tcp", l.Addr().String()) }}
}

func newNet(t *testing.T) *path {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return &path{l, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }}
}

// do runs a schedule over a new pair.
func (p *path) do(t *testing.T, steps []step) []string {
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := p.l.Accept()
		accepted <- c
	}()
	client, err := p.dial()
	require.NoError(t, err)
	server := <-accepted
	require.NotNil(t, server)
	defer client.Close()
	defer server.Close()
	return do(client.(conn), server.(conn), steps)
}

// found are schedules that once went another way than over TCP.
var found = [][]step{
	{{1, write, 1460}, {0, closeWrite, 0}, {0, closeBoth, 0}, {1, read, 4096}},
	{{1, closeWrite, 0}, {1, abort, 0}, {0, read, 1}},
}

func TestSchedules(t *testing.T) {
	tcp := newNet(t)
	for _, tt := range []struct {
		name string
		p    *path
	}{
		{"net", newNet(t)}, // the control
		{"soft", newPath(t, iwarp.OffloadRequire, soft.New(nil))},
		{"shm", newPath(t, iwarp.OffloadRequire, shm.New(nil))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// What depends on time goes either way over TCP, too.
			differs := func(s []step) bool {
				for range 3 {
					if slices.Equal(tcp.do(t, s), tt.p.do(t, s)) {
						return false
					}
				}
				return true
			}
			check := func(name any, steps []step) {
				if differs(steps) {
					steps = shrink(steps, differs)
					t.Errorf("schedule %v:\n%stcp:  %q\nhere: %q", name, text(steps), tcp.do(t, steps), tt.p.do(t, steps))
				}
			}
			for i, steps := range found {
				check(fmt.Sprintf("found, %d", i), steps)
			}
			for seed := *first; seed < *first+uint64(*schedules); seed++ {
				check(seed, newSchedule(seed))
			}
		})
	}
}
