package shm

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
)

func greetings() (all [][]byte) {
	good := greeting{kind: request, ird: 1, ord: 1, local: netip.MustParseAddrPort("127.0.0.1:50000"), remote: netip.MustParseAddrPort("[2001:db8::1]:80"), private: []byte("x")}
	for k := request; k <= again+1; k++ {
		good.kind = k
		all = append(all, good.append(nil))
	}
	all = append(all, (&greeting{}).append(nil), all[0][:greetingLen], append([]byte("iWARPshm\x01"), all[0][9:]...), make([]byte, greetingLen))
	long := good
	long.kind, long.private, long.scope = request, make([]byte, mostPrivate+1), 7
	return append(all, long.append(nil))
}

// FuzzGreeting reads greetings. What is read comes back as it was when it is written.
func FuzzGreeting(f *testing.F) {
	for _, g := range greetings() {
		f.Add(g)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < greetingLen {
			return // of which the reader waits for the rest
		}
		n, err := greetingSize(b)
		if err != nil {
			require.Zero(t, n)
			return
		}
		require.LessOrEqual(t, n, greetingLen+mostPrivate)
		if n > len(b) {
			return
		}
		g, err := parseGreeting(b[:n])
		if err != nil {
			return
		}
		second, err := parseGreeting(g.append(nil))
		require.NoError(t, err)
		require.Equal(t, g, second)
	})
}

// FuzzClient sends a listener what it likes, with descriptors of several kinds. Then an honest
// client is served.
func FuzzClient(f *testing.F) {
	tr := New(&Config{RequestTimeout: patience})
	l, err := tr.Listen(f.Context(), netip.MustParseAddrPort("127.0.0.1:0"), nil)
	require.NoError(f, err)
	ctx, accepted := f.Context(), make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			r, err := l.Accept(ctx)
			if err != nil {
				return
			}
			q := r.QueuePair()
			if r.Accept(ctx, nil) == nil {
				_ = q.Wait(time.Now().Add(patience))
			}
			_ = q.Abort()
		}
	}()
	memory, fd, err := ringOf(ringSize)
	require.NoError(f, err)
	r, w, err := os.Pipe()
	require.NoError(f, err)
	small, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	require.NoError(f, err)
	f.Cleanup(func() {
		require.NoError(f, l.Close())
		<-accepted
		memory.close()
		_, _ = unix.Close(fd), unix.Close(small)
		_, _ = r.Close(), w.Close()
	})
	kinds := []int{fd, int(r.Fd()), small}
	ask := func(t *testing.T, b []byte, fds []int) *net.UnixConn {
		c, err := net.DialUnix(unixNetwork, nil, &net.UnixAddr{Name: meetingName(l.Addr(), false), Net: unixNetwork})
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		if len(b) > 0 {
			_, _, _ = c.WriteMsgUnix(b, unix.UnixRights(fds...), nil)
		}
		return c
	}
	good := greeting{kind: request, ird: 1, ord: 1, local: netip.MustParseAddrPort("127.0.0.1:50000"), remote: l.Addr()}
	for _, g := range greetings() {
		copy(g[34:], good.append(nil)[34:52])
		f.Add(g, []byte{0})
		f.Add(g, []byte{1})
		f.Add(g, []byte{0, 2})
		f.Add(g, []byte{})
	}
	f.Fuzz(func(t *testing.T, b, with []byte) {
		b = b[:min(len(b), 4<<10)]
		var fds []int
		for _, k := range with[:min(len(with), 4)] {
			fds = append(fds, kinds[int(k)%len(kinds)])
		}
		if len(b) >= greetingLen { // the port is another in each process
			binary.LittleEndian.PutUint16(b[50:], l.Addr().Port())
		}
		c := ask(t, b, fds)
		_ = c.CloseWrite()
		_, err := c.Read(make([]byte, 1))
		require.False(t, isTimeout(err), "the listener keeps a client that has left")
		require.NoError(t, c.Close())

		c = ask(t, good.append(nil), []int{fd})
		answer := make([]byte, greetingLen)
		_, err = c.Read(answer)
		require.NoError(t, err)
		require.EqualValues(t, consent, answer[9], "an honest client is not served")
		require.NoError(t, c.Close())
	})
}

// FuzzRing has the peer write words to the shared memory: those of the header, and records. The end
// that reads it must not touch what it was not given.
func FuzzRing(f *testing.F) {
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	word := func(which byte, v uint64) []byte { return binary.LittleEndian.AppendUint64([]byte{which}, v) }
	record := func(h header) []byte {
		b := []byte{6, byte(h.op), h.flags}
		b = binary.LittleEndian.AppendUint32(b, h.length)
		b = binary.LittleEndian.AppendUint32(b, h.stag)
		b = binary.LittleEndian.AppendUint32(b, h.size)
		return binary.LittleEndian.AppendUint64(b, h.offset)
	}
	f.Add(join(record(header{op: opWrite, flags: flagLast, length: 100, stag: 1, offset: 8}), []byte{7}))
	f.Add(join(record(header{op: opWrite, flags: flagLast, length: 100, stag: 1, offset: 500}), []byte{7}))
	f.Add(join(record(header{op: opSend, flags: flagLast | flagSolicited, length: 10}), record(header{op: opSend, length: 5}), record(header{op: opSend, flags: flagLast | flagInvalidate, stag: 2}), []byte{7}))
	f.Add(join(record(header{op: opReadRequest, size: 64, stag: 1}), []byte{7}, record(header{op: opReadResponse, flags: flagLast, length: 24}), []byte{7}))
	f.Add(join(record(header{op: opReadResponse, length: 8}), record(header{op: opReadResponse, flags: flagLast, length: 16}), []byte{7}))
	f.Add(join(record(header{op: opSkip}), []byte{7}))
	f.Add(join(word(0, ringSize+headerLen), []byte{7}))
	f.Add(join(word(1, 1<<63), word(4, endClosed), []byte{7}, word(2, 1), word(3, 1), word(5, 2), []byte{7}))
	f.Fuzz(func(t *testing.T, b []byte) {
		const size = 512
		b = b[:min(len(b), 1000)]
		mem, source, sink := make([]byte, 3*size), make([]byte, 64), make([]byte, 24+64+64)
		var ring, own, readable transport.MemoryRegion
		p, q := pairOf(t, fullRing, func(_, q *queuePair) {
			var err error
			ring, err = q.RegisterMemory(mem[size:2*size], transport.RemoteWrite|transport.CallerDriven)
			require.NoError(t, err)
			own, err = q.RegisterMemory(sink, transport.LocalWrite)
			require.NoError(t, err)
			readable, err = q.RegisterMemory(source, transport.RemoteRead)
			require.NoError(t, err)
			_, err = q.PostRecv([]transport.RecvWR{{Data: sink[24:88], Region: own}, {Data: sink[88:], Region: own}})
			require.NoError(t, err)
		})
		_, err := q.PostSend([]transport.SendWR{{Opcode: transport.OpRead, Flags: transport.Signaled, Data: sink[:24], Region: own, RemoteSTag: 1}})
		require.NoError(t, err)
		stags := []transport.STag{ring.STag(), own.STag(), readable.STag()}
		s, back := p.tx.out, q.tx.out
		next := func(n int) []byte {
			v := make([]byte, n)
			b = b[copy(v, b):]
			return v
		}
		pos := uint64(0)
		for len(b) > 0 {
			switch op := next(1)[0] % 8; op {
			case 6:
				v := next(22)
				h := header{op: opcode(v[0]), flags: v[1], length: binary.LittleEndian.Uint32(v[2:]), stag: binary.LittleEndian.Uint32(v[6:]), size: binary.LittleEndian.Uint32(v[10:]), offset: binary.LittleEndian.Uint64(v[14:])}
				if i := int(h.stag) - 1; i >= 0 && i < len(stags) {
					h.stag = uint32(stags[i])
				}
				s.putHeader(pos, &h)
				pos = (pos + recordLen(uint64(h.length))) & (ringSize - 1)
				s.tail.Store(s.tail.Load() + recordLen(uint64(h.length)))
			case 7:
				q.Look()
				var wc [4]transport.Completion
				for _, c := range wc[:q.Poll(wc[:])] {
					require.LessOrEqual(t, c.Bytes, 64)
				}
			default:
				v := binary.LittleEndian.Uint64(next(8))
				switch op {
				case 0:
					s.tail.Store(v)
				case 1:
					back.head.Store(v)
				default:
					word := []*atomic.Uint32{s.end, s.reader, back.writer, s.way}[op-2]
					word.Store(uint32(v))
				}
			}
		}
		q.Look()
		require.Equal(t, make([]byte, size), mem[:size])
		require.Equal(t, make([]byte, size), mem[2*size:])
		require.Equal(t, make([]byte, 64), source, "nobody may write there")
		require.NoError(t, q.Abort())
		require.NoError(t, p.Abort())
	})
}
