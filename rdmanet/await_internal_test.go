package rdmanet

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft"
)

// TestConfirmationsBeforeAWait has a call that is about to wait see to what another has left to it,
// as it held the right to send.
func TestConfirmationsBeforeAWait(t *testing.T) {
	const limit = 20 * time.Second
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
	c, err := Server(t.Context(), r, nil)
	require.NoError(t, err)
	defer c.Close()
	peer := <-connected
	require.NotNil(t, peer)
	defer peer.Close()

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
	for c.confirm == 0 {
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
