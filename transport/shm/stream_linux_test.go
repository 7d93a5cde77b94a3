package shm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
)

var volume = flag.Int64("volume", 16<<20, "bytes that are sent each way by TestVolume")

// streams makes a connection.
func streams(ctx context.Context, tr *shm.Transport, l transport.Listener) (client, server *rdmanet.Conn, err error) {
	type result struct {
		c   *rdmanet.Conn
		err error
	}
	accepted := make(chan result, 1)
	go func() {
		req, err := l.Accept(ctx)
		if err != nil {
			accepted <- result{nil, fmt.Errorf("accept: %w", err)}
			return
		}
		c, err := rdmanet.Server(ctx, req, nil)
		accepted <- result{c, err}
	}()
	k, err := tr.Dial(ctx, netip.AddrPort{}, l.Addr(), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("dial: %w", err)
	}
	c, err := rdmanet.Client(ctx, k, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("client: %w", err)
	}
	s := <-accepted
	if s.err != nil {
		_ = c.Close()
		return nil, nil, s.err
	}
	return c, s.c, nil
}

func streamPair(t testing.TB) (c, s *rdmanet.Conn) {
	tr := shm.New(nil)
	l, err := tr.Listen(testContext(t), loopback, nil)
	require.NoError(t, err)
	defer l.Close()
	c, s, err = streams(testContext(t), tr, l)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c, s
}

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		tr := shm.New(nil)
		l, err := tr.Listen(ctx, loopback, nil)
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.Close()
		a, b, err := streams(ctx, tr, l)
		if err != nil {
			return nil, nil, nil, err
		}
		return a, b, func() {
			a.Close()
			b.Close()
		}, nil
	})
}

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
