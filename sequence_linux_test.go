package iwarp_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
)

// TestSequenceNumbersAreRandom looks at what somebody off the path has to guess. The numbers of
// messages begin at one in each connection, but they are bytes of a TCP stream, whose own numbers
// begin at random in either direction, as do those of package net: each bit is set in half of them,
// and changes from one connection to the next as often (ReDMArk, V6).
func TestSequenceNumbersAreRandom(t *testing.T) {
	const n = 512
	mayRepair(t)
	for _, policy := range []iwarp.Offload{iwarp.OffloadNever, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{})
			next := acceptEach(t, l)
			seen := make(map[[2]int]bool)
			var set, changed [2][32]int
			var last [2]int
			for range n {
				var socket syscall.RawConn
				d := iwarp.Dialer{Offload: policy, Timeout: patience, Control: func(_, _ string, c syscall.RawConn) error {
					socket = c
					return nil
				}}
				c, err := d.Dial("tcp", l.Addr().String())
				require.NoError(t, err)
				_, err = c.Write([]byte("x"))
				require.NoError(t, err)
				s := next()
				numbers, err := sequenceNumbers(socket)
				require.NoError(t, err)
				require.NoError(t, s.Close())
				require.NoError(t, c.Close())
				require.False(t, seen[numbers])
				seen[numbers] = true
				for way := range set {
					for bit := range set[way] {
						set[way][bit] += numbers[way] >> bit & 1
						changed[way][bit] += (numbers[way] ^ last[way]) >> bit & 1
					}
				}
				last = numbers
			}
			for way := range set {
				for bit := range set[way] {
					require.InDelta(t, n/2, set[way][bit], n/5, "bit %d", bit)
					require.InDelta(t, n/2, changed[way][bit], n/5, "bit %d from one to the next", bit)
				}
			}
		})
	}
}

// mayRepair skips a test that may not ask a socket for its numbers.
func mayRepair(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err == unix.EPERM {
		testkit.SkipUnprivileged(t, err)
	} else {
		require.NoError(t, err)
	}
}

// sequenceNumbers returns where a socket has come to in TCP's numbers, for what it sends and what
// it receives.
func sequenceNumbers(c syscall.RawConn) (numbers [2]int, err error) {
	const received, sent, leave = 1, 2, -1 // TCP_RECV_QUEUE, TCP_SEND_QUEUE, TCP_REPAIR_OFF_NO_WP
	fail := c.Control(func(d uintptr) {
		fd := int(d)
		if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
			return
		}
		for way, queue := range []int{sent, received} {
			if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue); err == nil {
				numbers[way], err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
			}
			if err != nil {
				return
			}
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, leave)
	})
	if fail != nil {
		err = fail
	}
	return numbers, err
}
