package iwarp_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestSilentRun has clients whose server speaks first wait for 1 s until three of them were silent,
// and again once one has asked for iWARP, too late for its own connection.
func TestSilentRun(t *testing.T) {
	t.Parallel()
	l := listen(t, iwarp.ListenConfig{})
	iwarp.SetLongSilence(l, time.Second)
	next := acceptEach(t, l)
	for range 3 {
		dialTCP(t, l)
	}
	for range 3 {
		next()
	}
	var client *net.TCPConn
	var server net.Conn
	for tries, wait := 0, time.Hour; wait > 500*time.Millisecond; tries++ {
		require.Less(t, tries, 100, "clients wait for %v", wait)
		began := time.Now()
		client = dialTCP(t, l)
		server = next()
		wait = time.Since(began)
		require.Equal(t, iwarp.ReasonSilent, describe(t, server).Reason)
	}
	_, err := io.WriteString(client, mpaKey)
	require.NoError(t, err)
	_, err = server.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.Equal(t, time.Second, iwarp.PatienceOf(l, server.(*net.TCPConn)))
}

// TestFarClients takes no client of iWARP on a long path for plain TCP where others were silent.
func TestFarClients(t *testing.T) {
	t.Parallel()
	if !inNamespace(t) {
		return
	}
	var listeners []func() net.Conn
	dials := make(chan error)
	for n, delay := range map[byte]time.Duration{10: 150 * time.Millisecond, 11: 300 * time.Millisecond} {
		farPath(t, n, path{delay: delay, dataDelay: 100 * time.Millisecond})
		for range 4 {
			l, err := (&iwarp.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("10.%d.0.1:0", n))
			require.NoError(t, err)
			iwarp.HaveSilentRun(l.(*iwarp.Listener))
			listeners = append(listeners, acceptEach(t, l))
			_, port, err := net.SplitHostPort(l.Addr().String())
			require.NoError(t, err)
			go func() {
				d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: patience, HandshakeTimeout: patience}
				c, err := d.Dial("tcp", fmt.Sprintf("10.%d.0.2:%s", n, port))
				if err == nil {
					defer c.Close()
				}
				dials <- err
			}()
		}
	}
	for range listeners {
		require.NoError(t, <-dials)
	}
	for _, next := range listeners {
		require.Equal(t, iwarp.ReasonNone, describe(t, next()).Reason)
	}
}
