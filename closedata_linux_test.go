package iwarp_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestCloseFreesTheDescriptor closes connections whose peers do not read, or drops them: nothing of
// them stays with the process, and their peers get everything, however late.
func TestCloseFreesTheDescriptor(t *testing.T) {
	const garbage = "garbage"
	type conn interface {
		net.Conn
		CloseWrite() error
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	}
	much := make([]byte, 16<<20)
	block := func(t *testing.T, c conn) (n int) {
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		n, err := c.Write(much)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		return n
	}
	for _, way := range []struct {
		name string
		end  func(t *testing.T, c conn) (n int)
	}{
		{"Close", func(t *testing.T, c conn) int {
			n := block(t, c)
			require.NoError(t, c.Close())
			return n
		}},
		{"CloseWrite and Close", func(t *testing.T, c conn) int {
			n := block(t, c)
			require.NoError(t, c.CloseWrite())
			require.NoError(t, c.Close())
			return n
		}},
		{"Close with a small buffer", func(t *testing.T, c conn) int {
			require.NoError(t, c.SetWriteBuffer(4<<10))
			n := block(t, c)
			require.NoError(t, c.Close())
			return n
		}},
		{garbage, func(t *testing.T, c conn) int { return block(t, c) }},
	} {
		for _, path := range paths {
			for _, byServer := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/by the server=%v", way.name, path.name, byServer), func(t *testing.T) {
					t.Parallel()
					lc := iwarp.ListenConfig{Offload: path.policy}
					if path.policy == iwarp.OffloadAuto {
						lc.FirstByteTimeout = 20 * time.Millisecond
					}
					c, s, _, err := pair(t, &lc, &iwarp.Dialer{Offload: path.policy, Timeout: patience})
					require.NoError(t, err)
					if byServer {
						c, s = s, c
					}
					defer s.Close()
					require.NoError(t, s.(conn).SetReadBuffer(64<<10))
					local, remote := c.LocalAddr(), c.RemoteAddr()
					wrote := way.end(t, c.(conn))
					c = nil
					require.Eventually(t, func() bool {
						if way.name == garbage {
							runtime.GC()
						}
						return !hasDescriptor(t, local, remote)
					}, patience, 10*time.Millisecond)
					require.NoError(t, s.SetDeadline(time.Now().Add(patience)))
					got, err := io.Copy(io.Discard, s)
					require.NoError(t, err)
					require.EqualValues(t, wrote, got)
				})
			}
		}
	}
}

// hasDescriptor reports whether some process has one of the connection between two IPv4 addresses.
func hasDescriptor(t *testing.T, local, remote net.Addr) bool {
	list, err := os.ReadFile("/proc/net/tcp")
	require.NoError(t, err)
	ends := fmt.Sprintf(":%04X 0100007F:%04X ", local.(*net.TCPAddr).Port, remote.(*net.TCPAddr).Port)
	for line := range strings.Lines(string(list)) {
		const inode = 9
		if fields := strings.Fields(line); strings.Contains(line, ends) {
			return fields[inode] != "0"
		}
	}
	return false
}
