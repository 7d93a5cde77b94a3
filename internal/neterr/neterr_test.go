package neterr

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestNoFamily tells what socket(2) says of a family from what others say of an address.
func TestNoFamily(t *testing.T) {
	inOpError := func(call string, err error) error {
		return &net.OpError{Op: "listen", Err: os.NewSyscallError(call, err)}
	}
	for _, err := range []error{syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT, syscall.EPERM, syscall.EACCES} {
		require.True(t, NoFamily(inOpError("socket", err)), err)
		require.False(t, NoFamily(inOpError("bind", err)), err)
		require.False(t, NoFamily(err), err)
	}
	require.False(t, NoFamily(inOpError("socket", syscall.EMFILE)))
	require.False(t, NoFamily(nil))
}

// TestOfContext has the errors of a context match what they matched, and what package net's match.
func TestOfContext(t *testing.T) {
	require.ErrorIs(t, OfContext(context.Canceled), context.Canceled)
	require.EqualError(t, OfContext(context.Canceled), "operation was canceled")
	err := OfContext(context.DeadlineExceeded)
	require.EqualError(t, err, "i/o timeout")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var timeout net.Error
	require.True(t, errors.As(err, &timeout) && timeout.Timeout())
	require.Equal(t, io.EOF, OfContext(io.EOF))
}

// TestOver does not depend on the timer of the context.
func TestOver(t *testing.T) {
	require.NoError(t, Over(t.Context()))
	require.Equal(t, context.DeadlineExceeded, Over(late{t.Context()}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, context.Canceled, Over(ctx))
}

// late is a context whose deadline has passed without its timer having noticed.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Unix(1, 0), true }

func TestBare(t *testing.T) {
	require.Equal(t, io.EOF, Bare(&net.OpError{Op: "read", Err: io.EOF}))
	require.Equal(t, io.EOF, Bare(io.EOF))
}
