package shm

import (
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
)

// dozes has a call of Wait doze, as if the last one had been brief, and returns how the call ends.
func dozes(t *testing.T, q *made) <-chan error {
	t.Helper()
	mostDozers.Add(100) // others may have brief waits, too
	t.Cleanup(countProcessors)
	q.sleep.brief, q.sleep.choice = true, choice{way: wayDoze, most: wayDoze, left: 100}
	ended := make(chan error, 1)
	go func() { ended <- q.Wait(time.Time{}) }()
	for end := time.Now().Add(patience); q.in.reader.Load() != dozing; runtime.Gosched() {
		require.True(t, time.Now().Before(end), "the call does not doze")
	}
	return ended
}

// TestDoze has everything end a doze that ends a wait.
func TestDoze(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, a, b *made)
		want error
	}{
		{"data", func(t *testing.T, a, _ *made) {
			_, err := a.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("x")}})
			require.NoError(t, err)
		}, nil},
		{"interrupt", func(_ *testing.T, _, b *made) { b.Interrupt() }, transport.ErrInterrupted},
		{"close", func(t *testing.T, _, b *made) { require.NoError(t, b.Close()) }, transport.ErrClosed},
		{"end of the peer", func(t *testing.T, a, _ *made) { require.NoError(t, a.Close()) }, io.EOF},
		{"death of the peer", func(t *testing.T, a, _ *made) { require.NoError(t, a.sock.Close()) }, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := pairOf(t, fullRing, func(a, b *queuePair) {
				if tt.want == nil {
					mem, err := b.RegisterMemory(make([]byte, 8), transport.LocalWrite)
					require.NoError(t, err)
					_, err = b.PostRecv([]transport.RecvWR{{Data: mem.(*regions.Region).Mem, Region: mem}})
					require.NoError(t, err)
				}
			})
			ended := dozes(t, b)
			tt.do(t, a, b)
			select {
			case err := <-ended:
				if tt.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, tt.want)
				}
			case <-time.After(patience):
				t.Fatal("the call hangs")
			}
		})
	}
}

// TestLongDoze goes on in the poller.
func TestLongDoze(t *testing.T) {
	_, b := pairOf(t, fullRing, func(a, b *queuePair) {})
	ended := dozes(t, b)
	for end := time.Now().Add(patience); b.in.reader.Load() != asleep; runtime.Gosched() {
		require.True(t, time.Now().Before(end), "the call dozes on")
	}
	b.Interrupt()
	require.ErrorIs(t, <-ended, transport.ErrInterrupted)
}

// TestNoDozeBeforeADeadline lets none run into one.
func TestNoDozeBeforeADeadline(t *testing.T) {
	_, b := pairOf(t, fullRing, func(a, b *queuePair) {})
	b.sleep.brief, b.sleep.choice = true, choice{way: wayDoze, most: wayDoze, left: 100}
	mostDozers.Add(100)
	t.Cleanup(countProcessors)
	ended := make(chan error, 1)
	go func() { ended <- b.Wait(time.Now().Add(longDoze / 2)) }()
	for {
		select {
		case err := <-ended:
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return
		default:
			require.NotEqual(t, uint32(dozing), b.in.reader.Load())
			runtime.Gosched()
		}
	}
}
