package iwarp_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// usable is the check of README by which a pool tells whether a connection that nobody reads can be
// used once more.
func usable(c net.Conn) bool {
	var b [1]byte
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(b[:])
	_ = c.SetReadDeadline(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// TestPoolCheck finds out on every path that the peer has closed a connection of a pool, or has
// sent what nobody asked for, and spoils nothing where it has not.
func TestPoolCheck(t *testing.T) {
	ends := map[string]func(c net.Conn) error{
		"close": net.Conn.Close,
		"reset": func(c net.Conn) error {
			if err := c.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
				return err
			}
			return c.Close()
		},
		"half close": func(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() },
		"more than was asked for": func(c net.Conn) error {
			_, err := io.WriteString(c, "ERR idle for too long")
			return err
		},
	}
	for _, policy := range policies {
		for name, end := range ends {
			t.Run(policy.String()+"/"+name, func(t *testing.T) {
				l := listen(t, iwarp.ListenConfig{})
				c, s := meet(t, l, func() net.Conn {
					c := dial(t, l, policy)
					_, err := io.WriteString(c, "x")
					noError(t, err)
					return c
				})
				_, err := io.ReadFull(s, make([]byte, 1))
				require.NoError(t, err)
				for range 3 {
					require.True(t, usable(c))
					exchange(t, c, s, "hello")
				}
				require.NoError(t, end(s))
				eventually(t, func() bool { return !usable(c) }, "the end is seen")
			})
		}
	}
}
