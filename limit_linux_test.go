package iwarp_test

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
)

// leaveOneDescriptor lets the process have one descriptor more than it has: see LimitFiles.
func leaveOneDescriptor(t *testing.T) (exhaust, restore func()) {
	t.Helper()
	free, err := unix.Dup(0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(free))
	return testkit.LimitFiles(t, uint64(free)+1)
}

// TestOutOfDescriptors has Accept return the error that package net gives, and go on when there are
// some again.
func TestOutOfDescriptors(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{Offload: policy})
			exhaust, restore := leaveOneDescriptor(t)
			defer restore()

			c, err := net.Dial("tcp", l.Addr().String()) // which takes the last one
			require.NoError(t, err)
			defer c.Close()
			for range 3 {
				exhaust()
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
			s, err := l.Accept()
			require.NoError(t, err, "what is over is not returned late")
			defer s.Close()
			require.IsType(t, (*net.TCPConn)(nil), s)
		})
	}
}

// TestOutOfDescriptorsForAMoment does not hear of a shortage that nobody was in Accept for.
func TestOutOfDescriptorsForAMoment(t *testing.T) {
	eachListener(t, func(t *testing.T, listen func() tcpListener) {
		l := listen()
		defer l.Close()
		policy := iwarp.OffloadNever
		if refuses(l) {
			policy = iwarp.OffloadRequire
		}
		_, restore := leaveOneDescriptor(t)
		defer restore()
		c := dialTCP(t, l) // which takes the last one
		_, err := io.WriteString(c, "hello")
		require.NoError(t, err)
		time.Sleep(10 * time.Millisecond) // in which one that accepts on its own account would have failed
		restore()
		require.NoError(t, l.SetDeadline(time.Now().Add(patience)))
		_, s := meet(t, l, func() net.Conn {
			c := dial(t, l, policy)
			_, err := io.WriteString(c, "hello")
			noError(t, err)
			return c
		})
		require.NotNil(t, s)
	})
}
