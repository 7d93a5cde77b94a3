package shm_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport/shm"
)

// TestWriterLearnsOfTheEnd of its peer although it only writes, by the second Write at the latest.
func TestWriterLearnsOfTheEnd(t *testing.T) {
	line := make([]byte, 100)
	write := func(t *testing.T, c net.Conn) {
		for range 10 {
			_, err := c.Write(line)
			require.NoError(t, err)
		}
	}
	// here returns a connection, and what ends the peer, which is of this process.
	here := func(end func(s net.Conn) error) func(t *testing.T, d *iwarp.Dialer) (net.Conn, func()) {
		return func(t *testing.T, d *iwarp.Dialer) (net.Conn, func()) {
			l := listenTCP(t, iwarp.ListenConfig{Offload: d.Offload}, "tcp", "127.0.0.1:0")
			c, s := meet(t, l, d, l.Addr().String())
			write(t, c)
			_, err := io.ReadFull(s, make([]byte, 1000))
			require.NoError(t, err)
			return c, func() { require.NoError(t, end(s)) }
		}
	}
	closedAfter := func(answers int) func(s net.Conn) error {
		return func(s net.Conn) (err error) {
			for range answers {
				_, e := s.Write([]byte("x"))
				err = errors.Join(err, e)
			}
			return errors.Join(err, s.Close())
		}
	}
	for _, tt := range []struct {
		name  string
		begin func(t *testing.T, d *iwarp.Dialer) (net.Conn, func())
		want  []syscall.Errno // one of these
	}{
		{"closed", here(net.Conn.Close), []syscall.Errno{syscall.EPIPE}},
		{"closed after an answer", here(func(s net.Conn) error {
			_, err := s.Write(make([]byte, 100_000))
			return errors.Join(err, s.Close())
		}), []syscall.Errno{syscall.EPIPE}},
		{"closed after many answers", here(closedAfter(1000)), []syscall.Errno{syscall.EPIPE}},
		{"closed after a full ring", here(closedAfter(4000)), []syscall.Errno{syscall.EPIPE}},
		{"reset", here(func(s net.Conn) error {
			return errors.Join(s.(interface{ SetLinger(int) error }).SetLinger(0), s.Close())
		}), []syscall.Errno{syscall.ECONNRESET}},
		{"killed", func(t *testing.T, d *iwarp.Dialer) (net.Conn, func()) {
			child, at := startChild(t, "discard", nil)
			c := dialBy(t, d, at)
			write(t, c)
			return c, func() {
				_ = child.Process.Kill()
				_, _ = child.Process.Wait()
			}
		}, []syscall.Errno{syscall.EPIPE, syscall.ECONNRESET}}, // as something is unread or not
	} {
		for _, policy := range []iwarp.Offload{iwarp.OffloadNever, iwarp.OffloadAuto} {
			t.Run(tt.name+" "+policy.String(), func(t *testing.T) {
				d := patient
				d.Offload = policy
				c, end := tt.begin(t, &d)
				require.Equal(t, policy == iwarp.OffloadAuto, describe(t, c).Offloaded)
				require.NoError(t, c.SetDeadline(soon()))
				end()
				var err error
				var n int
				for ; err == nil; n++ {
					if n > 1 {
						require.Equal(t, iwarp.OffloadNever, policy, "a second Write succeeds") // TCP may take its time
					}
					_, err = c.Write(line)
					shm.Watch()
				}
				if tt.want[0] == syscall.EPIPE && len(tt.want) == 1 {
					require.Greater(t, n, 1, "the first Write fails")
				}
				var got syscall.Errno
				require.ErrorAs(t, err, &got)
				if policy == iwarp.OffloadAuto || got != syscall.ECONNRESET { // TCP has both
					require.Contains(t, tt.want, got)
				}
				_, err = c.Write(line)
				require.Error(t, err)
			})
		}
	}
}

// TestShortReadsLearnOfTheEnd of a peer that was killed.
func TestShortReadsLearnOfTheEnd(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadNever, iwarp.OffloadAuto} {
		t.Run(policy.String(), func(t *testing.T) {
			child, at := startChild(t, "discard", nil)
			d := patient
			d.Offload = policy
			c := dialBy(t, &d, at)
			_, err := c.Write([]byte("x"))
			require.NoError(t, err)
			_ = child.Process.Kill()
			_, _ = child.Process.Wait()
			err = os.ErrDeadlineExceeded
			for end := time.Now().Add(limit); errors.Is(err, os.ErrDeadlineExceeded); {
				require.True(t, time.Now().Before(end))
				require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
				_, err = c.Read(make([]byte, 1))
			}
			require.Error(t, err)
		})
	}
}
