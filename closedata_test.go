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

// paths are the ways that connections take, the first being that of package net.
var paths = []struct {
	name   string
	policy iwarp.Offload
}{{"net", iwarp.OffloadNever}, {"auto", iwarp.OffloadAuto}, {"prefer", iwarp.OffloadPrefer}, {"require", iwarp.OffloadRequire}}

// TestCloseLosesNothing closes connections whose peers do not read at the time: they get all that
// Write said it took, and then the end of the stream.
func TestCloseLosesNothing(t *testing.T) {
	type ender interface{ CloseWrite() error }
	block := func(t *testing.T, c net.Conn) (n int) {
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		for chunk := make([]byte, 1<<20); ; {
			m, err := c.Write(chunk)
			n += m
			if err != nil {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.NoError(t, c.SetWriteDeadline(time.Time{}))
				return n
			}
		}
	}
	for _, way := range []struct {
		name  string
		close func(t *testing.T, c net.Conn) (n int)
	}{
		{"a large Write that succeeded", func(t *testing.T, c net.Conn) int {
			n, err := c.Write(make([]byte, 300_000))
			require.NoError(t, err)
			require.NoError(t, c.Close())
			return n
		}},
		{"a Write that timed out", func(t *testing.T, c net.Conn) int {
			n := block(t, c)
			require.NoError(t, c.Close())
			return n
		}},
		{"a Write that timed out, and CloseWrite", func(t *testing.T, c net.Conn) int {
			n := block(t, c)
			require.NoError(t, c.(ender).CloseWrite())
			require.NoError(t, c.Close())
			return n
		}},
		{"a Write that is blocked", func(t *testing.T, c net.Conn) int {
			n, wrote := block(t, c), make(chan int)
			go func() {
				m, err := c.Write(make([]byte, 1<<20))
				if !errors.Is(err, net.ErrClosed) {
					m = -1 << 40
				}
				wrote <- m
			}()
			require.NoError(t, c.Close())
			return n + <-wrote
		}},
	} {
		for _, path := range paths {
			for _, byServer := range []bool{false, true} {
				name := way.name + "/" + path.name + "/by the client"
				if byServer {
					name = way.name + "/" + path.name + "/by the server"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					lc := iwarp.ListenConfig{Offload: path.policy}
					if path.policy == iwarp.OffloadAuto { // of the other clients all speak first
						lc.FirstByteTimeout = 20 * time.Millisecond
					}
					c, s, stop, err := pair(t, &lc, &iwarp.Dialer{Offload: path.policy, Timeout: patience})
					require.NoError(t, err)
					defer stop()
					if byServer {
						c, s = s, c
					}
					require.NoError(t, s.SetDeadline(time.Now().Add(patience)))
					wrote := way.close(t, c)
					got, err := io.Copy(io.Discard, s)
					require.NoError(t, err)
					require.EqualValues(t, wrote, got)
				})
			}
		}
	}
}
