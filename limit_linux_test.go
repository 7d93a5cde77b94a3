package iwarp_test

import (
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

// TestOutOfDescriptors has Accept return the error that package net gives, and go on when there are some again.
func TestOutOfDescriptors(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{Offload: policy})
			free, err := unix.Dup(0)
			require.NoError(t, err)
			require.NoError(t, unix.Close(free))
			var old unix.Rlimit
			require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
			restore := func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }
			defer restore()
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free) + 1, Max: old.Max}))

			var c net.Conn
			eventually(t, func() bool { // an accept that finds nobody has the last one for a moment
				c, err = net.Dial("tcp", l.Addr().String())
				return err == nil
			}, "the dial takes the last one")
			defer c.Close()
			for range 3 {
				_, err = l.Accept()
				op := opError(t, err)
				require.ErrorIs(t, err, syscall.EMFILE)
				require.Equal(t, "accept", op.Op)
				require.True(t, op.Temporary(), "servers go on") //nolint:staticcheck // net/http asks
			}
			restore()
			if policy == iwarp.OffloadRequire {
				return
			}
			_, err = io.WriteString(c, "hello")
			require.NoError(t, err)
			for {
				s, err := l.Accept()
				if err != nil { // one that was due before
					require.ErrorIs(t, err, syscall.EMFILE)
					continue
				}
				defer s.Close()
				require.IsType(t, (*net.TCPConn)(nil), s)
				break
			}
		})
	}
}
