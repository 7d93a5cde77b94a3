package iwarp_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

func init() {
	beside["one port of two"] = func(t *testing.T, lc iwarp.ListenConfig) string {
		lc.Control = func(_, _ string, c syscall.RawConn) (err error) {
			cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
			require.NoError(t, cerr)
			return err
		}
		first := listen(t, lc)
		second, err := lc.Listen(t.Context(), "tcp", first.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = second.Close() })
		return first.Addr().String()
	}
}
