package benchmarks

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
	"github.com/stretchr/testify/require"
)

// TestIdleConnectionsHaveNoGoroutines holds open connections that both ends have used and nobody
// reads from.
func TestIdleConnectionsHaveNoGoroutines(t *testing.T) {
	const (
		conns = 1000
		slack = 20 // the listener's own, and the runtime's
	)
	for _, name := range []string{lab.TCP, lab.SoftCRC} {
		t.Run(name, func(t *testing.T) {
			path, ok := lab.Lookup(name)
			require.True(t, ok)
			before := runtime.NumGoroutine()
			l, err := path.Listen(t.Context(), "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()

			accepted := make(chan net.Conn)
			go func() {
				defer close(accepted)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					accepted <- c
				}
			}()
			for range conns {
				client, err := path.Dial(t.Context(), l.Addr().String())
				require.NoError(t, err)
				defer client.Close()
				server := <-accepted
				require.NotNil(t, server, "the listener has failed")
				defer server.Close()
				exchange(t, client, server)
				exchange(t, server, client)
			}
			require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+slack }, 10*time.Second, 10*time.Millisecond,
				"%d connections are open", conns)
		})
	}
}

func exchange(t *testing.T, from, to net.Conn) {
	t.Helper()
	_, err := from.Write([]byte("used"))
	require.NoError(t, err)
	var b [4]byte
	_, err = io.ReadFull(to, b[:])
	require.NoError(t, err)
	require.Equal(t, "used", string(b[:]))
}
