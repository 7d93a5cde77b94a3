package ports_test

import (
	"bufio"
	"flag"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var restarts = flag.Int("restarts", 10, "how often TestRestartUnderLoad kills its server")

// TestRestartUnderLoad kills a server with connections and starts it again on its port, which must
// be free at once. The flag -restarts makes it longer.
func TestRestartUnderLoad(t *testing.T) {
	address := "127.0.0.1:0"
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var served atomic.Int64
	defer clients.Wait()
	defer close(stop)
	for n := range *restarts + 1 {
		c := command(t, "server", "IWARP_TEST_ADDRESS="+address)
		if n%2 == 1 {
			c.Env = append(c.Env, "IWARP_TEST_RESERVE=1")
		}
		stdin, err := c.StdinPipe()
		require.NoError(t, err)
		stdout, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		line, err := bufio.NewReader(stdout).ReadString('\n')
		require.NoError(t, err)
		f := strings.Fields(line)
		require.Equal(t, "ready", f[0], "restart %d: %s", n, line)
		if n == 0 {
			address = f[1]
			for range 4 {
				clients.Go(func() {
					pace := time.NewTicker(time.Millisecond)
					defer pace.Stop()
					for {
						select {
						case <-stop:
							return
						case <-pace.C:
							if roundTrip(address) == nil {
								served.Add(1)
							}
						}
					}
				})
			}
		}
		require.Equal(t, address, f[1])
		var live []net.Conn
		for range 5 {
			live = append(live, dialTCP(t, &addressed{address}))
		}
		before := served.Load()
		eventually(t, func() bool { return served.Load() > before+5 }, "clients that are served")
		require.NoError(t, c.Process.Kill())
		_ = c.Wait()
		_ = stdin.Close()
		for _, c := range live {
			require.NoError(t, c.Close())
		}
	}
	t.Logf("%d restarts, %d clients served", *restarts, served.Load())
}

// addressed stands for the listener of another process.
type addressed struct{ address string }

func (a *addressed) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (a *addressed) Close() error              { return nil }
func (a *addressed) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.address))
}
