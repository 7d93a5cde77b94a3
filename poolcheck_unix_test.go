//go:build unix

package iwarp_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestDriverCheck shows why: the check that drivers have by themselves, here that of
// go-sql-driver/mysql, looks at the descriptor. An iWARP connection shows none, because what is on
// it is not the stream, and the check takes such a connection as it is.
func TestDriverCheck(t *testing.T) {
	driverCheck := func(c net.Conn) error {
		sc, ok := c.(syscall.Conn)
		if !ok {
			return nil
		}
		rc, err := sc.SyscallConn()
		if err != nil {
			return err
		}
		var ended error
		err = rc.Read(func(fd uintptr) bool {
			n, err := syscall.Read(int(fd), make([]byte, 1))
			switch {
			case n > 0:
				ended = errTest
			case n == 0 && err == nil:
				ended = io.EOF
			case err != syscall.EAGAIN:
				ended = err
			}
			return true
		})
		return errors.Join(err, ended)
	}
	for policy, sees := range map[iwarp.Offload]bool{iwarp.OffloadNever: true, iwarp.OffloadRequire: false} {
		l := listen(t, iwarp.ListenConfig{Offload: policy})
		c, s := meet(t, l, func() net.Conn { return dial(t, l, policy) })
		require.NoError(t, driverCheck(c))
		exchange(t, c, s, "nothing is lost")
		require.NoError(t, s.Close())
		if sees {
			eventually(t, func() bool { return errors.Is(driverCheck(c), io.EOF) }, "the end is seen")
		}
		require.Equal(t, sees, driverCheck(c) != nil, policy)
		eventually(t, func() bool { return !usable(c) }, "the end is seen")
	}
}
