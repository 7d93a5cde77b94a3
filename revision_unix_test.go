//go:build unix

package iwarp_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport/soft"
)

// TestOlderRevision dials again with MPA revision 1 when the peer resets a connection for revision
// 2.
func TestOlderRevision(t *testing.T) {
	served := make(chan net.Conn, 1)
	var revisions []byte
	iwarp.ForgetPeers()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		defer close(served)
		for range 2 {
			c, err := l.Accept()
			if !noError(t, err) {
				return
			}
			header := make([]byte, 20)
			if !noError(t, peekFull(c.(*net.TCPConn), header)) {
				return
			}
			revisions = append(revisions, header[17])
			if header[17] != 1 {
				resetConn(c.(*net.TCPConn), nil)
				continue
			}
			r, err := soft.New(nil).Server(context.Background(), c.(*net.TCPConn), nil)
			if !noError(t, err) {
				return
			}
			s, err := rdmanet.Server(context.Background(), r, nil)
			if noError(t, err) {
				served <- s
			}
		}
	}()
	c := dial(t, l, iwarp.OffloadRequire)
	s := <-served
	require.NotNil(t, s)
	defer s.Close()
	require.Equal(t, []byte{2, 1}, revisions)
	exchange(t, c, s, "hello")
}

// peekFull fills b with the first bytes of c and leaves them there.
func peekFull(c *net.TCPConn, b []byte) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	n := 0
	if err := rc.Read(func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), b, unix.MSG_PEEK)
		return err != unix.EAGAIN && (err != nil || n == 0 || n == len(b))
	}); err != nil {
		return err
	}
	if n < len(b) && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}
