package iwarp_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// A client of iWARP that gave up before anybody was in Accept is not handed out, neither as iWARP
// nor as plain TCP with its request as data. Linux reports that it has gone.
func TestClientThatGaveUp(t *testing.T) {
	request := append([]byte("MPA ID Req Frame\x40\x01\x00\x28"), append([]byte{1, 2, 1, 0x80}, make([]byte, 36)...)...)
	request[20+23], request[20+38] = 2, 1
	for name, leave := range map[string]func(c *net.TCPConn) error{
		"closed": func(c *net.TCPConn) error { return c.Close() },
		"reset":  func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
	} {
		for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadPrefer} {
			t.Run(name+"/"+policy.String(), func(t *testing.T) {
				l := listen(t, iwarp.ListenConfig{Offload: policy})
				gone := dialTCP(t, l)
				_, err := gone.Write(request)
				require.NoError(t, err)
				require.NoError(t, leave(gone))
				c := dialTCP(t, l)
				_, err = io.WriteString(c, "hello")
				require.NoError(t, err)
				s := accept(t, l)
				got := make([]byte, 5)
				_, err = io.ReadFull(s, got)
				require.NoError(t, err)
				require.Equal(t, "hello", string(got))
				require.Equal(t, c.LocalAddr().String(), s.RemoteAddr().String())
				require.NoError(t, l.SetDeadline(time.Now().Add(50*time.Millisecond)))
				_, err = l.Accept()
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			})
		}
	}
}
