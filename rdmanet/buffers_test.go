package rdmanet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

type bufferWay struct {
	name  string
	write func(c net.Conn, v *net.Buffers) (int64, error)
}

// bufferWays are the calls that write a net.Buffers as one.
var bufferWays = []bufferWay{
	{"WriteBuffers", func(c net.Conn, v *net.Buffers) (int64, error) {
		if c, ok := c.(*rdmanet.Conn); ok {
			return c.WriteBuffers(v)
		}
		return v.WriteTo(c) // package net's own
	}},
	{"ReadFrom", func(c net.Conn, v *net.Buffers) (int64, error) { return c.(io.ReaderFrom).ReadFrom(v) }},
}

// forBuffers runs a test for every way, over package net and for every setting, or one in so many
// of them.
func forBuffers(t *testing.T, one int, test func(t *testing.T, x, y net.Conn, write func(net.Conn, *net.Buffers) (int64, error))) {
	for _, way := range bufferWays {
		t.Run(way.name+"/net", func(t *testing.T) {
			a, b := connectTCP(t)
			defer a.Close()
			defer b.Close()
			test(t, a, b, way.write)
		})
		for i := 0; i < len(settings); i += one {
			s := settings[i]
			t.Run(way.name+"/"+s.name, func(t *testing.T) {
				e := connect(t, s)
				test(t, e.a, e.b, way.write)
			})
		}
	}
}

// Writers at once do not tear each other's buffers, be they small, large or mixed.
func TestBuffersStayTogether(t *testing.T) {
	const writers, rounds = 4, 6
	sizes := []int{0, 16, 16, 1, 70_000, 16, 3000, 0, 20_000, 20_000, 5}
	record := 0
	for _, n := range sizes {
		record += n
	}
	forBuffers(t, 1, func(t *testing.T, x, y net.Conn, write func(net.Conn, *net.Buffers) (int64, error)) {
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for range rounds {
					var v net.Buffers
					for i, n := range sizes {
						v = append(v, bytes.Repeat([]byte{byte(w<<4 | i)}, n))
					}
					if n, err := write(x, &v); n != int64(record) || err != nil || len(v) != 0 {
						t.Errorf("%d bytes, %d slices left, %v", n, len(v), err)
					}
				}
			})
		}
		go func() {
			wg.Wait()
			x.(interface{ CloseWrite() error }).CloseWrite()
		}()
		require.NoError(t, y.SetReadDeadline(time.Now().Add(limit)))
		got, err := io.ReadAll(y)
		require.NoError(t, err)
		require.Len(t, got, writers*rounds*record)
		for ; len(got) > 0; got = got[record:] {
			w, p := got[0]&0xf0, got[:record]
			for i, n := range sizes {
				require.Equal(t, n, bytes.Count(p[:n], []byte{w | byte(i)}), "a torn record")
				p = p[n:]
			}
		}
	})
}

// After a deadline what is left is what was not written, and writing can go on with it.
func TestBuffersAfterDeadline(t *testing.T) {
	forBuffers(t, 5, func(t *testing.T, x, y net.Conn, write func(net.Conn, *net.Buffers) (int64, error)) {
		var v net.Buffers
		var want []byte
		for i := range 4000 {
			p := binary.BigEndian.AppendUint32(nil, uint32(i))
			if i%500 == 0 {
				p = append(p, make([]byte, 1_000_000)...)
			}
			v = append(v, p, nil, []byte{})
			want = append(want, p...)
		}
		all := v
		require.NoError(t, x.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
		n, err := write(x, &v)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Skip("the host took all of it") // a kernel may buffer that many bytes
		}
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var left int
		for _, p := range v {
			left += len(p)
		}
		require.Equal(t, len(want), int(n)+left)
		for _, p := range all[:len(all)-len(v)] {
			require.Nil(t, p, "a slice that is written is still held")
		}
		require.NoError(t, x.SetWriteDeadline(time.Time{}))
		wait := background(t, func() {
			n2, err := write(x, &v)
			if int(n+n2) != len(want) || err != nil || len(v) != 0 {
				t.Errorf("%d bytes, then %d, %d slices left, %v", n, n2, len(v), err)
			}
			x.Close()
		})
		got, err := io.ReadAll(y)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		wait()
	})
}

func TestBuffersErrors(t *testing.T) {
	forBuffers(t, 1, func(t *testing.T, x, y net.Conn, write func(net.Conn, *net.Buffers) (int64, error)) {
		v := net.Buffers{nil, {}}
		n, err := write(x, &v)
		require.Zero(t, n)
		require.NoError(t, err)

		for _, state := range []struct {
			enter func() error
			want  error
		}{
			{x.(interface{ CloseWrite() error }).CloseWrite, syscall.EPIPE},
			{x.Close, net.ErrClosed},
		} {
			require.NoError(t, state.enter())
			v = net.Buffers{[]byte("abc"), []byte("def")}
			n, err = write(x, &v)
			require.Zero(t, n)
			require.ErrorIs(t, err, state.want)
			require.Equal(t, net.Buffers{[]byte("abc"), []byte("def")}, v)
			var op *net.OpError
			require.ErrorAs(t, err, &op)
			if op.Op == "readfrom" {
				require.ErrorAs(t, op.Err, &op)
			}
			require.Equal(t, "writev", op.Op)
		}
	})
}

// Small slices share messages.
func TestBuffersTakeFewMessages(t *testing.T) {
	var writes []*countedWrites
	s := setting{wrap: func(qp transport.QueuePair) transport.QueuePair {
		w := &countedWrites{QueuePair: qp}
		writes = append(writes, w)
		return w
	}}
	e := connect(t, s)
	before := writes[0].n
	var v net.Buffers
	for i := range 100 {
		v = append(v, fmt.Appendf(nil, "slice %d", i))
	}
	_, err := e.a.WriteBuffers(&v)
	require.NoError(t, err)
	require.Equal(t, 1, writes[0].n-before)
}

// countedWrites counts the RDMA Writes that are posted.
type countedWrites struct {
	transport.QueuePair
	n int
}

func (q *countedWrites) PostSend(wrs []transport.SendWR) (int, error) {
	for i := range wrs {
		if wrs[i].Opcode == transport.OpWrite {
			q.n++
		}
	}
	return q.QueuePair.PostSend(wrs)
}

// lentData records what is lent that does not lie in a buffer.
type lentData struct {
	transport.QueuePair
	buffer  []byte
	lent    int
	strange []transport.SendWR
}

func (q *lentData) PostSend(wrs []transport.SendWR) (int, error) {
	for i := range wrs {
		w := &wrs[i]
		switch {
		case w.Flags&transport.Lent == 0:
		case len(w.Data) > 0 && cap(w.Data) <= cap(q.buffer) && &q.buffer[:cap(q.buffer)][cap(q.buffer)-cap(w.Data)] == &w.Data[0]:
			q.lent++
		default:
			q.strange = append(q.strange, *w)
		}
	}
	return q.QueuePair.PostSend(wrs)
}

// Nothing is lent to the transport but what Write has been given: other memory serves the next call
// as soon as it is posted.
func TestOnlyTheCallersBytesAreLent(t *testing.T) {
	for _, plain := range []bool{false, true} {
		want := pattern(1 << 20)
		var q *lentData
		conf := rdmanet.Config{Plain: plain}
		e := connect(t, setting{client: conf, server: conf, wrap: func(qp transport.QueuePair) transport.QueuePair {
			l := &lentData{QueuePair: qp, buffer: want}
			if q == nil {
				q = l // the active end is made first
			}
			return l
		}})
		wait := background(t, func() {
			_, err := e.a.Write(want)
			if err != nil {
				t.Error(err)
			}
		})
		got := make([]byte, len(want))
		_, err := io.ReadFull(e.b, got)
		require.NoError(t, err)
		wait()
		require.True(t, bytes.Equal(want, got))
		require.Positive(t, q.lent)
		require.Empty(t, q.strange, "plain %v", plain)
	}
}

func TestBuffersAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e := connect(t, setting{})
	v, p, buf := make(net.Buffers, 100), make([]byte, 16), make([]byte, 4<<10)
	require.LessOrEqual(t, testing.AllocsPerRun(500, func() {
		for i := range v {
			v[i] = p
		}
		w := v
		_, _ = e.a.WriteBuffers(&w)
		_, _ = io.ReadFull(e.b, buf[:len(v)*len(p)])
	}), 0.5)
}
