package shm

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
)

// TestWriteNow writes what there is room for, and leaves the rest to PostSend, in order.
func TestWriteNow(t *testing.T) {
	a, b, mem, ring := ringed(t, 4*ringSize)
	data := transporttest.Random(len(mem))
	write := func(at, n int) bool {
		posted, left := a.WriteNow(ring.STag(), ring.Base()+uint64(at), data[at:at+n])
		require.False(t, left)
		return posted
	}
	sizes := []int{1, 31, 32, 33, 4096, maxPiece - 1, maxPiece, maxPiece + 1, 3*maxPiece + 5, mostNow}
	at := 0
	for range 3 {
		for _, n := range sizes {
			require.True(t, write(at, n), n)
			at += n
			require.True(t, b.Look())
			require.Equal(t, data[:at], mem[:at])
		}
	}
	require.False(t, write(at, 0))
	require.False(t, write(at, mostNow+1))
	for write(at, mostNow) { // until the ring is full
		at += mostNow
	}
	_, err := a.PostSend([]transport.SendWR{{Opcode: transport.OpWrite, Flags: transport.Inline | transport.WillDrain, Data: data[at : at+mostNow], RemoteSTag: ring.STag(), RemoteOffset: uint64(at)}})
	require.NoError(t, err)
	at += mostNow
	require.False(t, write(at, 1), "something is to be sent before")
	for end := time.Now().Add(patience); ; b.Look() {
		if a.Drain(past) == nil {
			break
		}
		require.True(t, time.Now().Before(end))
	}
	require.True(t, write(at, 1))
	b.Look()
	require.Equal(t, data[:at+1], mem[:at+1])

	a.tx.out.head.Store(a.tx.pos + headerLen)
	require.False(t, write(0, 1), "the peer has read more than was written")
	require.Error(t, end(a))
	require.False(t, write(0, 1))
}

// TestRestOfAMessage is looked for where a part of it has come, for as long as a bound says and no
// longer, whatever the peer says.
func TestRestOfAMessage(t *testing.T) {
	defer func(was bool) { alone = was }(alone)
	a, b, _, ring := ringed(t, ringSize)
	part := func(flags uint8) {
		a.tx.mu.Lock()
		defer a.tx.mu.Unlock()
		a.put(&header{op: opWrite, flags: flags, length: 100, stag: uint32(ring.STag()), offset: ring.Base()}, make([]byte, 100))
		a.publish()
	}
	for _, alone = range []bool{false, true} {
		part(0)
		require.True(t, b.Look(), "it ends without the rest")
		require.True(t, b.rx.torn)
		part(flagLast)
		require.True(t, b.Look())
		require.False(t, b.rx.torn)
	}
	alone = false
	part(0)
	require.True(t, b.Look())
	left := time.Nanosecond
	require.False(t, b.lookForRest(&left))
	require.Zero(t, left)
	go part(flagLast)
	left = time.Hour
	require.True(t, b.lookForRest(&left))
	require.Less(t, left, time.Hour)
	alone = true
	require.False(t, b.lookForRest(&left))
}

// TestReadRequestIsWhole has an RDMA Read answered at once: its request is no part of a message,
// and the answer does not wait for the rest of another one.
func TestReadRequestIsWhole(t *testing.T) {
	defer func(was bool) { alone = was }(alone)
	alone = false
	mem, sinkMem := transporttest.Random(16), make([]byte, 16)
	var src, sink transport.MemoryRegion
	a, b := pairOf(t, fullRing, func(a, b *queuePair) {
		var err error
		src, err = b.RegisterMemory(mem, transport.RemoteRead|transport.CallerDriven)
		require.NoError(t, err)
		sink, err = a.RegisterMemory(sinkMem, transport.LocalWrite)
		require.NoError(t, err)
	})
	read := func() {
		clear(sinkMem)
		_, err := a.PostSend([]transport.SendWR{{Opcode: transport.OpRead, Data: sinkMem, Region: sink, RemoteSTag: src.STag(), RemoteOffset: src.Base()}})
		require.NoError(t, err)
	}
	read()
	require.True(t, b.Look())
	require.False(t, b.rx.torn)
	require.True(t, a.Look())
	require.Equal(t, mem, sinkMem)

	read()
	b.Crew.Await(&b.Crew.Token, nil)
	require.Nil(t, b.record(b.in.tail.Load()-b.rx.pos))
	left := time.Nanosecond
	require.False(t, b.lookForRest(&left))
	b.Crew.Give(&b.Crew.Token)
	require.True(t, a.Look(), "the answer has waited for the rest")
	require.Equal(t, mem, sinkMem)
}

// TestWriterLearnsThatThePeerLeaves although what the peer has still to send finds no room: nobody
// reads here.
func TestWriterLearnsThatThePeerLeaves(t *testing.T) {
	mem := make([]byte, 2*ringSize)
	var ring, back transport.MemoryRegion
	a, b := pairOf(t, fullRing, func(a, b *queuePair) {
		var err error
		ring, err = b.RegisterMemory(make([]byte, 100), transport.RemoteWrite|transport.CallerDriven)
		require.NoError(t, err)
		back, err = a.RegisterMemory(mem, transport.RemoteWrite|transport.CallerDriven)
		require.NoError(t, err)
	})
	_, err := b.PostSend(writeOf(back, transporttest.Random(len(mem)), transport.WillDrain))
	require.NoError(t, err)
	require.False(t, b.Drained())
	require.NoError(t, b.Close())
	for end := time.Now().Add(patience); a.Err() == nil; {
		require.True(t, time.Now().Before(end))
		posted, _ := a.WriteNow(ring.STag(), ring.Base(), make([]byte, 100))
		require.False(t, posted)
	}
	require.Equal(t, io.EOF, a.Err())
	require.Equal(t, transporttest.Random(len(mem)), mem)
}

// TestPeerThatSaysItLeaves and stays has its Writes sent the long way, and is found where it dies.
func TestPeerThatSaysItLeaves(t *testing.T) {
	a, b, mem, ring := ringed(t, 100)
	a.in.leaves.Store(1)
	for i := range byte(3) {
		posted, _ := a.WriteNow(ring.STag(), ring.Base(), []byte{i})
		require.False(t, posted)
		_, err := a.PostSend(writeOf(ring, []byte{i}, transport.WillDrain))
		require.NoError(t, err)
		require.True(t, b.Look())
		require.Equal(t, i, mem[0])
	}
	_, err := a.PostSend(writeOf(ring, []byte{3}, transport.WillDrain))
	require.NoError(t, err)
	require.NoError(t, b.sock.Close())
	watch.look()
	posted, _ := a.WriteNow(ring.STag(), ring.Base(), []byte{4})
	require.False(t, posted)
	require.ErrorIs(t, a.Err(), io.ErrUnexpectedEOF)
}
