package iwarp_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
)

func TestMain(m *testing.M) {
	_ = os.Unsetenv("IWARP_OFFLOAD")
	_ = os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	iwarp.BePatient()
	testkit.Run(m)
}

const patience = testkit.Patience

// What several packages' tests need.
var (
	errTest, policies = testkit.ErrTest, testkit.Policies

	accept, dial, meet, dialTCP      = testkit.Accept, testkit.Dial, testkit.Meet, testkit.DialTCP
	exchange, exchangeWithEcho, echo = testkit.Exchange, testkit.ExchangeWithEcho, testkit.Echo
	reserve, closedPort              = testkit.Reserve, testkit.ClosedPort
	opError, requireSameError        = testkit.OpError, testkit.RequireSameError
	eventually, canceled, openFiles  = testkit.Eventually, testkit.Canceled, testkit.OpenFiles
	nameServer, needLocalhost        = testkit.NameServer, testkit.NeedLocalhost
	background                       = testkit.Background
)

// listen starts a Listener at a port that no peer of an earlier test has left a memory of.
func listen(t testing.TB, lc iwarp.ListenConfig) *iwarp.Listener {
	t.Helper()
	l := testkit.Listen(t, lc)
	iwarp.ForgetPeer(l.Addr())
	return l
}

// acceptEach accepts in the background, and returns a function that waits for the next connection.
func acceptEach(t testing.TB, l net.Listener) (next func() net.Conn) {
	accepted := make(chan net.Conn, 100)
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
	t.Cleanup(func() {
		_ = l.Close()
		for c := range accepted {
			_ = c.Close()
		}
	})
	return func() net.Conn {
		t.Helper()
		select {
		case c, ok := <-accepted:
			require.True(t, ok, "the listener has failed")
			t.Cleanup(func() { _ = c.Close() })
			require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
			return c
		case <-time.After(patience):
			t.Fatal("no connection")
			return nil
		}
	}
}

// dialBy connects by a Dialer of the test's.
func dialBy(t testing.TB, d *iwarp.Dialer, network, address string) net.Conn {
	t.Helper()
	c, err := d.Dial(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exchangeMet makes the two ends that meet talk.
func exchangeMet(t testing.TB, l net.Listener, dial func() net.Conn) {
	t.Helper()
	c, s := meet(t, l, dial)
	exchange(t, c, s, "hello")
}

// meetSpeaking is meet with a client that says something at once, so that nobody waits to see
// whether it will, where it is one of plain TCP.
func meetSpeaking(t testing.TB, l net.Listener, dial func() net.Conn) (client, server net.Conn) {
	t.Helper()
	const text = "hello"
	client, server = meet(t, l, func() net.Conn {
		c := dial()
		_, err := io.WriteString(c, text)
		noError(t, err)
		return c
	})
	_, err := io.ReadFull(server, make([]byte, len(text)))
	require.NoError(t, err)
	return client, server
}

func describe(t testing.TB, c net.Conn) iwarp.Info {
	t.Helper()
	info, ok := iwarp.Describe(c)
	require.True(t, ok)
	return info
}
