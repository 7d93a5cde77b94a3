package transport_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// TestErrors holds each error against what callers of sockets look for.
func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		err, is error
		timeout bool
		text    string
	}{
		{err: transport.ErrClosed, is: net.ErrClosed, text: "queue pair closed"},
		{err: transport.ErrHandshakeTimeout, is: syscall.ETIMEDOUT, timeout: true, text: "iwarp connection set-up timed out"},
		{err: &transport.RejectedError{PrivateData: []byte("no")}, is: syscall.ECONNREFUSED, text: "connection request rejected by the peer with 2 bytes of private data"},
		{err: &transport.TerminateError{Layer: 1, Type: 2, Code: 3, Text: "why"}, is: syscall.ECONNRESET, text: "peer terminated the connection: why (layer 1, type 2, code 0x03)"},
		{err: &transport.NotIWARPError{Cause: syscall.EPIPE}, is: transport.ErrNotIWARP, text: "peer does not speak iwarp: broken pipe"},
		{err: &transport.NotIWARPError{Cause: syscall.EPIPE}, is: syscall.EPIPE, text: "peer does not speak iwarp: broken pipe"},
		{err: &transport.TerminateError{Local: true, Text: "why"}, is: syscall.ECONNRESET, text: "connection terminated for the peer's fault: why (layer 0, type 0, code 0x00)"},
	} {
		require.ErrorIs(t, tt.err, tt.is)
		require.EqualError(t, tt.err, tt.text)
		var ne net.Error
		require.Equal(t, tt.timeout, errors.As(tt.err, &ne) && ne.Timeout())
	}
}

// TestSTagKeepsItsSecret shows that a log never tells the capability.
func TestSTagKeepsItsSecret(t *testing.T) {
	require.Equal(t, "stag(none)", transport.STag(0).String())
	require.NotContains(t, transport.STag(0x12345678).String(), "345")
	require.Equal(t, "unknown state", transport.State(99).String())
	require.Equal(t, "rts", transport.StateRTS.String())
	require.Equal(t, "read", transport.OpRead.String())
	require.Equal(t, "flushed", transport.StatusFlushed.String())
}
