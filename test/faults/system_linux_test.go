package faults

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

// fewFiles is below what any system has for itself alone: one with less has been made so for
// this test.
const fewFiles = 4000

// TestSystemOutOfDescriptors uses up the descriptors of the whole system (ENFILE), for which it
// needs one of its own with a low fs.file-max, and must not be root, whom the limit does not
// concern. Errors are those of package net, whose listener and dial are tried first, what is
// connected goes on, and so does everything else when the shortage is over.
func TestSystemOutOfDescriptors(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/fs/file-max")
	require.NoError(t, err)
	if most, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err != nil || most > fewFiles || os.Geteuid() == 0 {
		t.Skip("not a system with few descriptors: see the test of that name in test/kernel")
	}
	lacks := func(t *testing.T, op string, err error) {
		t.Helper()
		var e *net.OpError
		require.ErrorAs(t, err, &e)
		require.Equal(t, op, e.Op)
		require.ErrorIs(t, err, unix.ENFILE)
		require.True(t, e.Temporary()) //nolint:staticcheck // net/http asks
	}
	try := func(name string, l net.Listener, dial func() (net.Conn, error), s *served) {
		t.Run(name, func(t *testing.T) {
			var old net.Conn
			if s != nil {
				old = s.connected()
			}
			waiting, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer waiting.Close()
			_, err = io.WriteString(waiting, "x")
			require.NoError(t, err)
			restore := useUp(t)
			defer restore()
			for range 3 {
				_, err = l.Accept()
				lacks(t, "accept", err)
				_, err = dial()
				lacks(t, "dial", err)
				_, err = net.Listen("tcp", "127.0.0.1:0")
				lacks(t, "listen", err)
				_, err = iwarp.Listen("tcp", "127.0.0.1:0")
				lacks(t, "listen", err)
			}
			if s != nil {
				s.works(old)
			}
			restore()
			if s == nil || s.d.Offload != iwarp.OffloadRequire { // which has no use for who waits
				c, err := l.Accept()
				require.NoError(t, err)
				require.NoError(t, c.Close())
			}
			if s != nil {
				s.works(s.connected())
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	try("package net", l, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }, nil)
	for _, policy := range policies {
		s := serve(t, policy)
		l, err := (&iwarp.ListenConfig{Offload: policy}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		try(policy.String(), l, s.dial, s)
		require.NoError(t, l.Close())
	}
}

// useUp opens files until there are no more, and returns what closes them.
func useUp(t *testing.T) (restore func()) {
	var fds []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENFILE) {
			break
		}
		require.NoError(t, err)
		fds = append(fds, fd)
	}
	return func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		fds = nil
	}
}
