package shm_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/shm"
)

var volume = flag.Int64("volume", 16<<20, "bytes that are sent each way by TestVolume")

func streamPair(t testing.TB) (c, s *rdmanet.Conn) {
	tr := shm.New(nil)
	l, err := tr.Listen(testContext(t), loopback, nil)
	require.NoError(t, err)
	defer l.Close()
	c, s, err = transporttest.Streams(testContext(t), tr, l)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c, s
}

func TestConn(t *testing.T) { transporttest.Conn(t, shm.New(nil), loopback) }

// TestVolume sends each way at once, and compares what arrives.
func TestVolume(t *testing.T) {
	c, s := streamPair(t)
	var all sync.WaitGroup
	var sums [2][2][sha256.Size]byte
	for i, ends := range [][2]*rdmanet.Conn{{c, s}, {s, c}} {
		all.Go(func() {
			h, block := sha256.New(), random(100_000+i)
			for left := *volume; left > 0; {
				b := block[:min(int64(len(block)), left)]
				block[0]++
				h.Write(b)
				if _, err := ends[0].Write(b); err != nil {
					t.Error(err)
					return
				}
				left -= int64(len(b))
			}
			if err := ends[0].CloseWrite(); err != nil {
				t.Error(err)
			}
			h.Sum(sums[i][0][:0])
		})
		all.Go(func() {
			h := sha256.New()
			if n, err := io.CopyBuffer(h, struct{ io.Reader }{ends[1]}, make([]byte, 70_000)); n != *volume || err != nil {
				t.Error(n, err)
			}
			h.Sum(sums[i][1][:0])
		})
	}
	all.Wait()
	for _, s := range sums {
		require.Equal(t, s[0], s[1])
	}
}

// TestBlocked shows a Write that waits because nobody at the peer takes anything, although there is
// room in the peer's ring.
func TestBlocked(t *testing.T) {
	const much = 8 << 20
	c, s := streamPair(t)
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, much))
		written <- err
	}()
	require.Eventually(t, func() bool { return !c.Stats().BlockedSince.IsZero() }, 20*time.Second, time.Millisecond)
	_, err := io.CopyN(io.Discard, s, much)
	require.NoError(t, err)
	require.NoError(t, <-written)
	got := c.Stats()
	require.Zero(t, got.BlockedSince)
	require.Positive(t, got.Blocked)
	require.Positive(t, got.BlockedTimes)
}

// TestExpose writes into memory of the peer.
func TestExpose(t *testing.T) {
	c, s := streamPair(t)
	r, err := s.Expose(100, 1<<20)
	require.NoError(t, err)
	go func() {
		b := make([]byte, 1)
		_, _ = io.ReadFull(s, b)
		_, _ = s.Write(b)
		_, _ = s.Read(b)
	}()
	_, err = c.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
	data := random(1 << 20)
	n, err := c.WriteAt(data, 100)
	require.NoError(t, err)
	require.Equal(t, len(data), n)
	done := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1)) // confirms
		done <- err
	}()
	mem := r.Bytes()
	require.NoError(t, r.Close())
	require.True(t, bytes.Equal(data, mem))
	require.NoError(t, s.Close())
	require.Equal(t, io.EOF, <-done)
}
