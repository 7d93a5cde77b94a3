package shm

import (
	"context"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/rdmanet"
)

// TestFaultInAStream ends a stream whose bytes cannot be read, as there is no memory for a page of
// them. No call of it hangs.
func TestFaultInAStream(t *testing.T) {
	l, err := New(nil).Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), nil)
	require.NoError(t, err)
	defer l.Close()
	type end struct {
		*rdmanet.Conn
		q *queuePair
	}
	accepted := make(chan end, 1)
	go func() {
		defer close(accepted)
		r, err := l.Accept(context.Background())
		if err != nil {
			return
		}
		if c, err := rdmanet.Server(context.Background(), r, nil); err == nil {
			accepted <- end{c, r.QueuePair().(*queuePair)}
		}
	}()
	k, err := New(nil).Dial(t.Context(), netip.AddrPort{}, l.Addr(), nil)
	require.NoError(t, err)
	c, err := rdmanet.Client(t.Context(), k, nil)
	require.NoError(t, err)
	defer c.Close()
	s, ok := <-accepted
	require.True(t, ok)

	_, err = c.Write(make([]byte, 20_000))
	require.NoError(t, err)
	page := s.q.in.mem[8192:12288]
	require.NoError(t, unix.Mprotect(page, unix.PROT_NONE))
	calls := make(chan error)
	for _, call := range []struct {
		do   func() error
		want error
	}{
		{func() error { _, err := s.Read(make([]byte, 20_000)); return err }, syscall.ENOMEM},
		{func() error { return s.SetDeadline(time.Time{}) }, nil},
		{func() error {
			defer unix.Mprotect(page, unix.PROT_READ|unix.PROT_WRITE)
			return s.Close()
		}, nil},
	} {
		go func() { calls <- call.do() }()
		select {
		case err := <-calls:
			require.ErrorIs(t, err, call.want)
		case <-time.After(patience):
			t.Fatal("a call hangs")
		}
	}
}
