package soft_test

import (
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// looks are what may see a failure of the kernel connection before somebody waits. The kernel
// reports it once, so none of them may keep it to itself.
var looks = map[string]func(t *testing.T, q *soft.QueuePair){
	"nobody":             func(*testing.T, *soft.QueuePair) {},
	"a look for bytes":   func(_ *testing.T, q *soft.QueuePair) { soft.BytesWait(q) },
	"a look at the MSS":  func(_ *testing.T, q *soft.QueuePair) { soft.LookAtMSS(q) },
	"a Write of nothing": func(_ *testing.T, q *soft.QueuePair) { soft.SendNothing(q) },
	"a setting":          func(_ *testing.T, q *soft.QueuePair) { _ = q.SetNoDelay(false) },
	"a Drain":            func(_ *testing.T, q *soft.QueuePair) { _ = q.Drain(soon()) },
	"a Wait that has timed out": func(t *testing.T, q *soft.QueuePair) {
		require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Unix(1, 0)))
	},
	"a post": func(_ *testing.T, q *soft.QueuePair) {
		_, _ = q.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}})
	},
	"two posts": func(t *testing.T, q *soft.QueuePair) {
		wr := []transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}}
		_, _ = q.PostSend(wr)
		n, err := q.PostSend(wr)
		require.Zero(t, n)
		require.ErrorIs(t, err, syscall.ECONNRESET)
	},
}

func TestResetIsSeenWhoeverLooksFirst(t *testing.T) {
	for name, look := range looks {
		for sent, bytes := range map[string][]byte{"": nil, ", within an FPDU": send(1, payload(4))[:9], ", behind a Send": send(1, payload(4))} {
			t.Run(name+sent, func(t *testing.T) {
				if runtime.GOOS == "windows" && bytes != nil {
					t.Skip("the kernel drops what came before the reset")
				}
				q, p, _ := role{prepare: func(q transport.QueuePair) { receives(t, q, 1, 4) }}.initiator(t)
				p.write(bytes)
				require.NoError(t, p.c.SetLinger(0))
				require.NoError(t, p.c.Close())
				look(t, q.(*soft.QueuePair))
				wc, err := finish(t, q)
				require.ErrorIs(t, err, syscall.ECONNRESET)
				require.ErrorIs(t, q.Err(), syscall.ECONNRESET)
				arrived := 0
				for _, c := range wc {
					if c.Opcode == transport.OpRecv && c.Status == transport.StatusSuccess {
						arrived++
					}
				}
				require.Equal(t, len(bytes) == len(send(1, payload(4))), arrived == 1)
			})
		}
	}
}

// A peer that closes with something of ours unread resets, as its kernel does.
func TestPeerClosesWithUnreadData(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: payload(9)})
	require.NoError(t, q.Drain(soon()))
	require.NoError(t, p.c.Close())
	_, err := finish(t, q)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// What only a write has found out, such as the end of the kernel's patience, is no end of the
// stream.
func TestFailureThatAWriteHasFound(t *testing.T) {
	for cause, want := range map[error]error{
		syscall.ETIMEDOUT:    syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH: syscall.EHOSTUNREACH,
		syscall.ECONNRESET:   syscall.ECONNRESET,
		syscall.EPIPE:        io.EOF,
	} {
		q, p, _ := role{}.initiator(t)
		soft.FailSending(q.(*soft.QueuePair), os.NewSyscallError("write", cause))
		require.NoError(t, p.c.CloseWrite())
		_, err := finish(t, q)
		require.ErrorIs(t, err, want, "%v", cause)
	}
}

// A reset is reported as such to those who drain, though another call may have taken it from the
// kernel.
func TestResetWhileOutputIsBlocked(t *testing.T) {
	for range 10 {
		q, p, _ := role{}.initiator(t)
		narrow(t, q, p)
		post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: make([]byte, 300_000)})
		ended := make(chan error, 3)
		go func() { ended <- q.Wait(soon()) }()
		for range 2 {
			go func() { ended <- q.Drain(soon()) }()
		}
		require.Equal(t, os.ErrDeadlineExceeded, q.Drain(time.Now().Add(5*time.Millisecond)))
		require.NoError(t, p.c.SetLinger(0))
		require.NoError(t, p.c.Close())
		for range 3 {
			if err := <-ended; err != nil { // Wait may first report what was flushed
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
		}
		_, err := finish(t, q)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.ErrorIs(t, q.Drain(soon()), syscall.ECONNRESET)
		soft.FailSending(q.(*soft.QueuePair), os.NewSyscallError("write", syscall.EPIPE))
		require.ErrorIs(t, q.Drain(soon()), syscall.ECONNRESET, "where a write comes after the read that took the reset")
		n, err := q.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}})
		require.Zero(t, n)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.NoError(t, q.Close())
	}
}
