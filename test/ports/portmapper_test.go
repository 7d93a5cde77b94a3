package ports_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/portmap"
)

// TestPortMapper asks as a kernel's daemon does for a connecting peer.
func TestPortMapper(t *testing.T) {
	ps := &iwarp.PortSpace{}
	lc := iwarp.ListenConfig{PortSpace: ps}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	wild, err := lc.Listen(t.Context(), "tcp", ":0")
	require.NoError(t, err)
	defer wild.Close()
	idle := reserve(t, ps, "tcp", "127.0.0.1:0")

	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.LocalAddr().String()
	require.ErrorIs(t, ps.ServePortMapper(t.Context(), address), syscall.EADDRINUSE)
	require.NoError(t, free.Close())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ps.ServePortMapper(ctx, address) }()

	c, err := net.Dial("udp", address)
	require.NoError(t, err)
	defer c.Close()
	me := netip.MustParseAddrPort("127.0.0.1:40000")
	b := make([]byte, 128)
	// ask sends until there is an answer, as the other end may not be there yet, and datagrams are
	// lost.
	association := uint64(0)
	ask := func(to netip.AddrPort) portmap.Message {
		association++
		m := portmap.Message{Association: association, Accepting: to, Connecting: me, Mapped: me}
		var answer portmap.Message
		eventually(t, func() bool {
			_, _ = c.Write(m.Append(nil))
			require.NoError(t, c.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
			n, err := c.Read(b)
			if err != nil || binary.BigEndian.Uint64(b[8:]) != association {
				return false
			}
			require.Equal(t, 48, n)
			answer, err = portmap.Parse(b[:n])
			require.NoError(t, err)
			return true
		}, "an answer")
		return answer
	}
	at := func(port int) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	}
	port := func(a net.Addr) int { return a.(*net.TCPAddr).Port }
	for name, tt := range map[string]struct {
		port int
		kind portmap.Kind
	}{
		"listener": {port(l.Addr()), portmap.Accept}, "wildcard": {port(wild.Addr()), portmap.Accept},
		"idle": {port(idle.Addr()), portmap.Reject}, "nobody": {1, portmap.Reject},
	} {
		got := ask(at(tt.port))
		require.Equal(t, portmap.Message{Kind: tt.kind, Association: association, Accepting: at(tt.port), Connecting: me}, got, name)
	}

	// Nothing but a request gets an answer.
	for _, junk := range [][]byte{nil, []byte("hello"), make([]byte, 1000),
		portmap.Message{Kind: portmap.Ack, Accepting: at(1), Connecting: me}.Append(nil),
		portmap.Message{Kind: portmap.Accept, Accepting: at(1), Connecting: me}.Append(nil)} {
		_, err := c.Write(junk)
		require.NoError(t, err)
	}
	require.Equal(t, portmap.Reject, ask(at(1)).Kind)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = c.Read(b)
	require.ErrorContains(t, err, "i/o timeout")

	cancel()
	require.NoError(t, <-done)
}
