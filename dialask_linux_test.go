package iwarp_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport/soft"
)

// loseData has the kernel drop all segments with data that arrive for c, or for those that c
// accepts.
func loseData(t testing.TB, c interface {
	Control(func(uintptr)) error
}) {
	t.Helper()
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 12}, // the length of the header, in words, and something else
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4},
		{Code: unix.BPF_ALU | unix.BPF_LSH | unix.BPF_K, K: 2},
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_ALU | unix.BPF_SUB | unix.BPF_X},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 30},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	var err error
	require.NoError(t, c.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	}))
	require.NoError(t, err)
}

// TestLostRequest does not count as silence of the peer that the request has not arrived yet.
func TestLostRequest(t *testing.T) {
	iwarp.ForgetPeers()
	// From when it has arrived. There is as much time for the answer as there is to let the request
	// in, before it is sent for the last time that is of use.
	const slack = 600 * time.Millisecond
	defer iwarp.SetAnswerSlack(slack)()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // which takes no filters
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	rc, err := l.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	loseData(t, rc)
	came := make(chan *net.TCPConn, 1)
	go func() {
		c, _ := l.Accept()
		came <- c.(*net.TCPConn)
	}()
	found := time.NewTimer(slack + slack/10)
	answered := make(chan error, 1)
	go func() {
		s := <-came
		<-found.C
		rc, err := s.SyscallConn()
		if err == nil {
			err = rc.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
		}
		if err != nil {
			answered <- err
			return
		}
		r, err := soft.New(nil).Server(t.Context(), s, nil)
		if err == nil {
			var c *rdmanet.Conn
			if c, err = rdmanet.Server(t.Context(), r, nil); err == nil {
				defer c.Close()
			}
		}
		answered <- err
	}()
	c, err := (&iwarp.Dialer{Offload: iwarp.OffloadPrefer}).Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, "soft", describe(t, c).Transport)
	require.NoError(t, <-answered)
}
