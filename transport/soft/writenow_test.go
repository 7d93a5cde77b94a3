package soft_test

import (
	"bytes"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// WriteNow puts the same on the wire as PostSend would, until the kernel takes no more; the rest
// waits as what was posted does.
func TestWriteNow(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	narrow(t, q, p)
	w := q.(transport.NowWriter)
	posted, _ := w.WriteNow(7, 0, []byte("early"))
	require.False(t, posted, "FPDUs must fit TCP segments")
	require.NoError(t, q.SetMaxSegment(32<<10))
	for name, n := range map[string]int{"nothing": 0, "too much": 1 << 20} {
		posted, _ = w.WriteNow(7, 0, make([]byte, n))
		require.False(t, posted, name)
	}

	want := random(8 << 20)
	at, writes := 0, 0
	next := func() []byte {
		n := 1 + at%(5<<10)
		if writes++; writes%3 == 0 {
			n *= 50
		}
		return bytes.Clone(want[at : at+n])
	}
	var data []byte
	for left := false; !left; {
		require.Less(t, at, len(want)-1<<20, "the kernel takes it all")
		data = next()
		posted, left = w.WriteNow(7, uint64(at), data)
		require.True(t, posted)
		at += len(data)
		if !left {
			clear(data)
		}
	}
	posted, _ = w.WriteNow(7, uint64(at), next())
	require.False(t, posted, "something is to be sent before")
	require.Equal(t, os.ErrDeadlineExceeded, q.Drain(time.Now().Add(10*time.Millisecond)))
	clear(data)
	data = next()
	post(t, q, transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline, Data: data, RemoteSTag: 7, RemoteOffset: uint64(at)})
	at += len(data)

	got := 0
	receive := func() {
		s := p.nextOfUser() // with a good CRC
		require.Equal(t, rdmap.OpWrite, s.Op)
		require.EqualValues(t, 7, s.T.STag)
		require.EqualValues(t, got, s.T.TO)
		require.True(t, bytes.Equal(want[got:got+len(s.Payload)], s.Payload), "at %d", got)
		got += len(s.Payload)
	}
	for got < at {
		receive()
	}
	require.NoError(t, q.Drain(soon()))
	posted, left := w.WriteNow(7, uint64(at), want[at:at+100])
	require.True(t, posted)
	require.Equal(t, runtime.GOOS == "windows", left) // where only Drain can write
	require.NoError(t, q.Drain(soon()))
	for got < at+100 {
		receive()
	}
}

// A connection that has ended leaves it to PostSend to say so.
func TestWriteNowAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(q *soft.QueuePair, p *rawPeer){
		"close": func(q *soft.QueuePair, _ *rawPeer) { _ = q.Close() },
		"reset": func(q *soft.QueuePair, p *rawPeer) {
			_ = p.c.SetLinger(0)
			_ = p.c.Close()
			_ = q.Wait(soon())
		},
		"reset that nobody has seen": func(_ *soft.QueuePair, p *rawPeer) {
			_ = p.c.SetLinger(0)
			_ = p.c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			q, p, _ := role{}.initiator(t)
			require.NoError(t, q.SetMaxSegment(32<<10))
			end(q.(*soft.QueuePair), p)
			posted, _ := q.(transport.NowWriter).WriteNow(7, 0, []byte("late"))
			require.False(t, posted)
			_, err := q.PostSend([]transport.SendWR{{Opcode: transport.OpWrite, Flags: transport.Inline, Data: []byte("late")}})
			require.Error(t, err)
		})
	}
}
