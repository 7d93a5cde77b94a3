package iwarp_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// acceptSilent returns both ends of a connection that was handed out before the client had spoken.
func acceptSilent(t *testing.T, address, host string) (client, server net.Conn) {
	t.Helper()
	l, err := (&iwarp.ListenConfig{FirstByteTimeout: time.Millisecond}).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	client, err = net.Dial("tcp", net.JoinHostPort(host, port))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	require.Equal(t, iwarp.ReasonSilent, describe(t, server).Reason)
	return client, server
}

// TestLateRequest keeps an MPA request from an application that has got the client as plain TCP.
func TestLateRequest(t *testing.T) {
	for _, tt := range []struct{ address, host string }{{"127.0.0.1:0", "127.0.0.1"}, {"[::1]:0", "::1"}, {":0", "127.0.0.1"}, {":0", "::1"}} {
		client, server := acceptSilent(t, tt.address, tt.host)
		_, err := io.WriteString(client, mpaKey+"\x40\x01\x00\x00")
		require.NoError(t, err)
		require.NoError(t, server.SetDeadline(time.Now().Add(50*time.Millisecond)))
		got := make([]byte, 64)
		n, err := server.Read(got)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "%v: %q", tt, got[:n])
		exchangeOneWay(t, server, client, "220 hello")
	}
}

// TestLateClients has everything else reach the application, whatever it begins with.
func TestLateClients(t *testing.T) {
	long := bytes.Repeat([]byte("MPA ID Req Fram "), 1<<16)
	for _, text := range []string{"hello", "M", "MPA ID Req Fram", "MPA ID Req Fram!", "MPA ID Rep Frame", string(long)} {
		client, server := acceptSilent(t, "127.0.0.1:0", "127.0.0.1")
		exchangeOneWay(t, server, client, "220 hello")
		go func() { _, _ = io.WriteString(client, text); _ = client.(*net.TCPConn).CloseWrite() }()
		require.NoError(t, server.SetDeadline(time.Now().Add(patience)))
		got, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, len(text), len(got))
		require.True(t, text == string(got))
	}
}

func exchangeOneWay(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	require.NoError(t, from.SetDeadline(time.Now().Add(patience)))
	require.NoError(t, to.SetDeadline(time.Now().Add(patience)))
	_, err := io.WriteString(from, text)
	require.NoError(t, err)
	got := make([]byte, len(text))
	_, err = io.ReadFull(to, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}
