package shm

import (
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
)

var overwrites = flag.Int("overwrites", 5_000, "words of shared memory that TestOverwrites overwrites")

const patience = 20 * time.Second

func socketPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		c, err := net.FileConn(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// A made is one end of a connection that no handshake has made, and its descriptor of the memory.
type made struct {
	*queuePair
	fd int
}

func (m *made) QueuePair() transport.QueuePair { return m.queuePair }

func fullRing() (*segment, int, error) { return ringOf(ringSize) }

// pairOf connects two queue pairs. What must be done before that is done by prepare.
func pairOf(t testing.TB, make func() (*segment, int, error), prepare func(a, b *queuePair)) (a, b *made) {
	t.Helper()
	ca, cb := socketPair(t)
	var ends [2]*made
	var own, theirs [2]*segment
	for i, c := range []*net.UnixConn{ca, cb} {
		q, err := newQueuePair(c, New(nil), nil)
		require.NoError(t, err)
		q.local, q.remote = netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
		ends[i] = &made{queuePair: q}
		own[i], ends[i].fd, err = make()
		require.NoError(t, err)
		theirs[1-i], err = mapSegment(ends[i].fd, len(own[i].mem))
		require.NoError(t, err)
		t.Cleanup(func() {
			_ = q.Close()
			_ = unix.Close(ends[i].fd)
		})
	}
	prepare(ends[0].queuePair, ends[1].queuePair)
	for i, e := range ends {
		require.NoError(t, e.start(own[i], theirs[i], 16, 16))
	}
	return ends[0], ends[1]
}

// TestOverwrites has somebody overwrite words of the shared memory, most of all of the header,
// while a transfer runs. It must go on, or end with an error, and bytes only get to where they may.
func TestOverwrites(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for left := *overwrites; left > 0; {
		t.Run("", func(t *testing.T) { left -= overwrite(t, rng, min(left, 200)) })
	}
}

// overwrite overwrites up to most words during one transfer, and returns how many.
func overwrite(t *testing.T, rng *rand.Rand, most int) (done int) {
	const size = 64 << 10
	mem := make([]byte, 3*size)
	var ring, answer transport.MemoryRegion
	a, b := pairOf(t, fullRing, func(a, b *queuePair) {
		var err error
		ring, err = b.RegisterMemory(mem[size:2*size], transport.RemoteWrite|transport.RemoteRead)
		require.NoError(t, err)
		answer, err = a.RegisterMemory(make([]byte, size), transport.LocalWrite)
		require.NoError(t, err)
	})
	var maps [][]byte
	for _, e := range []*made{a, b} {
		m, err := unix.Mmap(e.fd, 0, headerSize+ringSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		require.NoError(t, err)
		maps = append(maps, m)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { // the transfer
		defer close(ended)
		data := make([]byte, size)
		sink := answer.(*regions.Region).Mem
		for {
			select {
			case <-stop:
				return
			default:
			}
			n := rng64(&data)
			a.WriteNow(ring.STag(), 0, data[:n])
			_, err := a.PostSend([]transport.SendWR{
				{Opcode: transport.OpWrite, Flags: transport.Inline | transport.WillDrain, Data: data[:n], RemoteSTag: ring.STag()},
				{Opcode: transport.OpRead, Flags: transport.WillDrain, Data: sink[:n/2], Region: answer, RemoteSTag: ring.STag()},
			})
			if err != nil {
				return
			}
			if err := a.Drain(time.Now().Add(20 * time.Millisecond)); err != nil && !isTimeout(err) {
				return
			}
		}
	}()
	for done < most && a.Err() == nil && b.Err() == nil {
		m := maps[rng.IntN(2)]
		at := rng.IntN(headerSize+ringSize) &^ 7
		if rng.IntN(4) > 0 {
			at = []int{atTail, atHead, atReader, atWriter, atEnd, atLeaves}[rng.IntN(6)]
		} else if rng.IntN(2) > 0 {
			at = headerSize + 8*rng.IntN(64) // headers at the front of the ring
		}
		v := rng.Uint64() >> rng.IntN(64)
		if rng.IntN(3) > 0 {
			v &^= headerLen - 1
		}
		atomic.StoreUint64((*uint64)(ptr(m, at)), v)
		done++
		if done%16 == 0 {
			time.Sleep(100 * time.Microsecond) // so that there is a transfer
		}
	}
	close(stop)
	_ = a.Close()
	_ = b.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the transfer hangs")
	}
	for _, m := range maps {
		require.NoError(t, unix.Munmap(m))
	}
	for _, part := range [][]byte{mem[:size], mem[2*size:]} {
		require.Equal(t, make([]byte, size), part, "bytes beside the region")
	}
	return max(done, 1)
}

// end returns why q is over.
func end(q transport.QueuePair) error {
	for {
		if err := q.Wait(time.Now().Add(patience)); err != nil {
			return err
		}
		var wc [8]transport.Completion
		q.Poll(wc[:])
	}
}

func rng64(data *[]byte) int { return 1 + rand.IntN(len(*data)) }

// TestNothingDeliveredThatWasNotSent holds indices that make no sense to be the peer's fault.
func TestNothingDeliveredThatWasNotSent(t *testing.T) {
	for name, spoil := range map[string]func(s *segment){
		"tail too far":  func(s *segment) { s.tail.Store(ringSize + headerLen) },
		"tail odd":      func(s *segment) { s.tail.Store(headerLen + 1) },
		"tail backward": func(s *segment) { s.tail.Store(1<<64 - headerLen) },
		"opcode":        func(s *segment) { s.putHeader(0, &header{op: opEnd}); s.tail.Store(headerLen) },
		"length":        func(s *segment) { s.putHeader(0, &header{op: opWrite, length: 1}); s.tail.Store(headerLen) },
		"long":          func(s *segment) { s.putHeader(0, &header{op: opSend, length: 1<<32 - 1}); s.tail.Store(ringSize) },
		"skip":          func(s *segment) { s.putHeader(0, &header{op: opSkip}); s.tail.Store(headerLen) },
		"response":      func(s *segment) { s.putHeader(0, &header{op: opReadResponse}); s.tail.Store(headerLen) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pairOf(t, fullRing, func(a, b *queuePair) {})
			spoil(a.tx.out)
			err := end(b)
			var local, remote *transport.TerminateError
			require.ErrorAs(t, err, &local)
			require.True(t, local.Local)
			require.ErrorAs(t, end(a), &remote)
			require.Equal(t, local.Text, remote.Text)
		})
	}
	t.Run("head", func(t *testing.T) {
		a, b := pairOf(t, fullRing, func(a, b *queuePair) {})
		b.in.head.Store(headerLen)
		_, _ = a.PostSend([]transport.SendWR{{Opcode: transport.OpWrite, Flags: transport.Inline}})
		require.ErrorIs(t, end(a), syscall.ECONNRESET)
	})
}

// TestMemoryTakenAway survives pages that are not there when they are touched.
func TestMemoryTakenAway(t *testing.T) {
	unsealed := func() (*segment, int, error) {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		require.NoError(t, err)
		require.NoError(t, unix.Ftruncate(fd, headerSize+ringSize))
		s, err := mapSegment(fd, headerSize+ringSize)
		return s, fd, err
	}
	for _, left := range []int64{0, headerSize} {
		a, b := pairOf(t, unsealed, func(a, b *queuePair) {})
		require.NoError(t, unix.Ftruncate(b.fd, left))
		_, _ = a.PostSend([]transport.SendWR{{Opcode: transport.OpWrite, Flags: transport.Inline, Data: make([]byte, 10_000)}})
		require.ErrorIs(t, end(a), syscall.ENOMEM)
		if left == 0 {
			require.ErrorIs(t, end(b), syscall.ENOMEM)
		}
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	}
}

// TestForeignSegments takes nothing for memory of a peer that could be taken away.
func TestForeignSegments(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, file.Truncate(headerSize+ringSize))
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	sealed := func(size int64, seals int) int {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		require.NoError(t, unix.Ftruncate(fd, size))
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
		require.NoError(t, err)
		return fd
	}
	good := int64(headerSize + ringSize)
	for name, fd := range map[string]int{
		"file": int(file.Fd()), "pipe": int(r.Fd()), "not sealed": sealed(good, 0), "may shrink": sealed(good, unix.F_SEAL_GROW|unix.F_SEAL_SEAL),
		"small": sealed(headerSize, seals), "odd": sealed(good+1, seals), "huge": sealed(1<<40+headerSize, seals), "empty": sealed(0, seals), "no descriptor": -1,
	} {
		_, err := openSegment(fd)
		require.Equal(t, errSegment, err, name)
	}
	s, err := openSegment(sealed(good, seals))
	require.NoError(t, err)
	s.close()
	own, fd, err := ringOf(ringSize)
	require.NoError(t, err)
	defer unix.Close(fd)
	defer own.close()
	require.ErrorIs(t, unix.Ftruncate(fd, headerSize), unix.EPERM)
	require.ErrorIs(t, unix.Ftruncate(fd, 1<<30), unix.EPERM)
}

// TestBadClients shows what comes to a listener from those that do not keep to the rules, and that
// it serves others meanwhile.
func TestBadClients(t *testing.T) {
	tr := New(&Config{RequestTimeout: 500 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := tr.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), nil)
	require.NoError(t, err)
	defer l.Close()
	good := greeting{kind: request, ird: 1, ord: 1, local: netip.MustParseAddrPort("127.0.0.1:50000"), remote: l.Addr(), private: []byte("x")}
	with := func(change func(g *greeting)) []byte {
		g := good
		change(&g)
		return g.append(nil)
	}
	memory, fd, err := ringOf(ringSize)
	require.NoError(t, err)
	defer unix.Close(fd)
	defer memory.close()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	pipe := int(r.Fd())
	whole := good.append(nil)
	before := descriptors(t)
	for _, tt := range []struct {
		name string
		say  []byte
		fds  []int
		ends bool // by itself
	}{
		{name: "nothing"},
		{name: "half a greeting", say: whole[:20], fds: []int{fd}},
		{name: "private data cut short", say: whole[:greetingLen], fds: []int{fd}},
		{name: "no descriptor", say: whole},
		{name: "two descriptors", say: whole, fds: []int{fd, fd}},
		{name: "many descriptors", say: whole, fds: []int{fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd}},
		{name: "noise", say: make([]byte, 100), fds: []int{fd}},
		{name: "another version", say: append([]byte("iWARPshm\x01"), whole[9:]...), fds: []int{fd}},
		{name: "an answer", say: with(func(g *greeting) { g.kind = consent }), fds: []int{fd}},
		{name: "a foreign address", say: with(func(g *greeting) { g.local = netip.MustParseAddrPort("192.0.2.1:50000") }), fds: []int{fd}},
		{name: "no port", say: with(func(g *greeting) { g.local = netip.MustParseAddrPort("127.0.0.1:0") }), fds: []int{fd}},
		{name: "another service", say: with(func(g *greeting) { g.remote = netip.MustParseAddrPort("127.0.0.1:1") }), fds: []int{fd}},
		{name: "a pipe", say: whole, fds: []int{pipe}, ends: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.DialUnix(unixNetwork, nil, &net.UnixAddr{Name: meetingName(l.Addr(), false), Net: unixNetwork})
			require.NoError(t, err)
			defer c.Close()
			if tt.say != nil {
				var rights []byte
				if tt.fds != nil {
					rights = unix.UnixRights(tt.fds...)
				}
				_, _, err = c.WriteMsgUnix(tt.say, rights, nil)
				require.NoError(t, err)
			}
			if tt.ends { // it is found out when the request is accepted
				q, err := l.Accept(ctx)
				require.NoError(t, err)
				require.ErrorIs(t, q.Accept(ctx, nil), transport.ErrNotIWARP)
			}
			require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
			_, err = c.Read(make([]byte, 1))
			require.Error(t, err)
			require.False(t, isTimeout(err))
		})
	}
	// Others are served.
	accepted := make(chan error, 1)
	go func() {
		r, err := l.Accept(ctx)
		if err == nil {
			var c *rdmanet.Conn
			if c, err = rdmanet.Server(ctx, r, nil); err == nil {
				err = c.Close()
			}
		}
		accepted <- err
	}()
	k, err := tr.Dial(ctx, netip.AddrPort{}, l.Addr(), nil)
	require.NoError(t, err)
	c, err := rdmanet.Client(ctx, k, nil)
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.NoError(t, c.Close())
	require.NoError(t, <-accepted)
	for end := time.Now().Add(patience); descriptors(t) > before; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), "descriptors are left over")
	}
}

func descriptors(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}
