package iwarp_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestDrain returns the clients that are there already, and none after them.
func TestDrain(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Hour})
	early, late := dialTCP(t, l), dialTCP(t, l)
	_, err := io.WriteString(early, "early")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- l.Drain(t.Context()) }()
	eventually(t, func() bool {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, "the end of listening")
	_, err = io.WriteString(late, "late")
	require.NoError(t, err)
	got := make(map[string]bool)
	for len(got) < 2 {
		c := accept(t, l)
		b := make([]byte, 5)
		n, err := c.Read(b)
		if err != nil {
			continue // a dial of the loop above that came in time
		}
		got[string(b[:n])] = true
	}
	require.Equal(t, map[string]bool{"early": true, "late": true}, got)
	require.NoError(t, <-done)
	for err == nil {
		_, err = l.Accept()
	}
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, l.Drain(t.Context()), net.ErrClosed)
	require.NoError(t, l.Close())
}

// TestDrainGivesUp closes the listener when the context ends before a silent client has spoken.
func TestDrainGivesUp(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Hour})
	dialTCP(t, l)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.Drain(ctx), context.DeadlineExceeded)
	_, err := l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, l.Close(), net.ErrClosed)
}
