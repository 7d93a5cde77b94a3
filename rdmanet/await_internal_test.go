package rdmanet

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft"
)

const limit = 20 * time.Second

// TestConfirmationsBeforeAWait has a call that is about to wait see to what another has left to it,
// as it held the right to send.
func TestConfirmationsBeforeAWait(t *testing.T) {
	peer, c := connectedPair(t)

	region, err := peer.Expose(0, 4096)
	require.NoError(t, err)
	_, err = peer.Write([]byte("x"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.NoError(t, err)
	revoked := make(chan error, 1)
	go func() { revoked <- region.Close() }()

	c.sendMu.Lock()
	c.mu.Lock()
	for !c.maps.Confirmable() {
		c.await(&c.wr, time.Now().Add(limit))
	}
	c.stopDriving(&c.wr)
	require.True(t, c.giveWanted.Load())
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		c.awaitSending()
		c.mu.Unlock()
		c.sendMu.Unlock()
	}()
	select {
	case err := <-revoked:
		require.NoError(t, err)
	case <-time.After(limit):
		t.Fatal("the peer waits for a confirmation")
	}
	<-waited
}

// connectedPair returns the two ends of a connection, the active one first.
func connectedPair(t *testing.T) (active, passive *Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	tcp, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	k, err := soft.New(nil).Client(tcp.(*net.TCPConn), nil)
	require.NoError(t, err)
	connected := make(chan *Conn, 1)
	go func() {
		c, err := Client(t.Context(), k, nil)
		if err != nil {
			t.Error(err)
		}
		connected <- c
	}()
	tcp, err = ln.Accept()
	require.NoError(t, err)
	r, err := soft.New(nil).Server(t.Context(), tcp.(*net.TCPConn), nil)
	require.NoError(t, err)
	passive, err = Server(t.Context(), r, nil)
	require.NoError(t, err)
	t.Cleanup(func() { passive.Close() })
	active = <-connected
	require.NotNil(t, active)
	t.Cleanup(func() { active.Close() })
	return active, passive
}

// TestCloseWriteAfterALook has a Write find that it may go on waiting while CloseWrite is under
// way.
func TestCloseWriteAfterALook(t *testing.T) {
	c, _ := connectedPair(t)
	for n := 1; n > 0; { // until the peer's ring is full
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
		n, _ = c.Write(make([]byte, 10000))
	}
	require.NoError(t, c.SetWriteDeadline(time.Time{}))
	is := func(what func() bool) func() bool {
		return func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return what()
		}
	}
	read, wrote, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	require.Eventually(t, is(func() bool { return c.driver == reader }), limit, time.Millisecond)
	go func() { _, err := c.Write(make([]byte, 10)); wrote <- err }()
	require.Eventually(t, is(func() bool { return c.wr.parked }), limit, time.Millisecond)

	c.sendMu.Lock()
	require.NoError(t, c.SetWriteDeadline(time.Time{})) // rouses the Write
	const likely = 5 * time.Millisecond                 // to wait for sendMu by then; correct without
	time.Sleep(likely)
	go func() { closed <- c.CloseWrite() }()
	time.Sleep(likely)
	c.sendMu.Unlock()
	require.NoError(t, soon(t, closed))
	require.ErrorIs(t, soon(t, wrote), syscall.EPIPE)
	require.NoError(t, c.Close())
	require.ErrorIs(t, soon(t, read), net.ErrClosed)
}

// soon returns what comes from c.
func soon(t *testing.T, c <-chan error) error {
	select {
	case err := <-c:
		return err
	case <-time.After(limit):
		t.Fatal("still blocked")
		return nil
	}
}
