package soft_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// narrow makes the kernel's buffers small, so that a queue pair fills them soon when its peer does
// not read.
func narrow(t testing.TB, q transport.QueuePair, p *rawPeer) {
	t.Helper()
	require.NoError(t, q.(*soft.QueuePair).SetWriteBuffer(16<<10))
	if p != nil {
		require.NoError(t, p.c.SetReadBuffer(16<<10))
	}
}

// sends reads to the end of the stream and returns the payloads of all Sends, message by message.
func (p *rawPeer) sends() [][]byte {
	p.t.Helper()
	var messages [][]byte
	var open []byte
	for {
		s, err := p.segment()
		if err == io.EOF {
			return messages
		}
		require.NoError(p.t, err)
		if !s.Op.IsSend() {
			continue
		}
		require.EqualValues(p.t, len(open), s.U.MO)
		require.EqualValues(p.t, len(messages)+1, s.U.MSN)
		open = append(open, s.Payload...)
		if s.U.Last {
			messages, open = append(messages, open), nil
		}
	}
}

// halfAnswered returns a queue pair in the middle of the answer to an RDMA Read of a peer who does
// not take it.
func halfAnswered(t *testing.T) (transport.QueuePair, *rawPeer, transport.MemoryRegion) {
	t.Helper()
	var region transport.MemoryRegion
	q, p, _ := role{prepare: func(q transport.QueuePair) {
		var err error
		region, err = q.RegisterMemory(make([]byte, 8<<20), transport.RemoteRead|transport.CallerDriven)
		require.NoError(t, err)
		receives(t, q, 1, 4)
	}}.responder(t)
	narrow(t, q, p)
	p.write(concat(readRequest(1, rdmap.ReadRequest{SinkSTag: 7, Size: 8 << 20, SrcSTag: uint32(region.STag())}), send(1, []byte("read"))))
	require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: 4}, next(t, q))
	return q, p, region
}

func TestCloseInTheMiddleOfAReadResponse(t *testing.T) {
	q, p, _ := halfAnswered(t)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("last words")})
	require.NoError(t, q.Close())
	require.Equal(t, [][]byte{[]byte("last words")}, p.sends())
}

func TestCloseSendsWhatWasPosted(t *testing.T) {
	for _, inline := range []transport.Flags{0, transport.Inline} {
		for _, size := range []int{1, 70000, 1 << 20} {
			data := random(size)
			var region transport.MemoryRegion
			q, p, _ := role{prepare: func(q transport.QueuePair) {
				var err error
				region, err = q.RegisterMemory(data, 0)
				require.NoError(t, err)
			}}.initiator(t)
			narrow(t, q, p)
			require.NoError(t, q.SetMaxSegment(32<<10))
			want := bytes.Clone(data)
			post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: inline, Data: data, Region: region},
				transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("end")})
			require.NoError(t, q.Close())
			clear(data) // the memory is the caller's again
			got := p.sends()
			require.Len(t, got, 2)
			require.True(t, bytes.Equal(want, got[0]), "%d bytes", size)
			require.Equal(t, "end", string(got[1]))
		}
	}
}

func TestAwaitClosed(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	narrow(t, q, p)
	data := random(1 << 20)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: data})
	closer := q.(*soft.QueuePair)
	require.NoError(t, closer.AwaitClosed(time.Time{}), "nothing is under way before Close")
	require.NoError(t, q.Close())
	require.ErrorIs(t, closer.AwaitClosed(time.Now()), os.ErrDeadlineExceeded)
	require.ErrorIs(t, closer.AwaitClosed(time.Now().Add(20*time.Millisecond)), os.ErrDeadlineExceeded, "the peer has not read")
	got := p.sends()
	require.Len(t, got, 1)
	require.True(t, bytes.Equal(data, got[0]))
	require.NoError(t, closer.AwaitClosed(soon()))
	require.NoError(t, closer.AwaitClosed(time.Time{}))
}

// What the peer sent and nobody read must not turn the end of the stream into a reset, which would
// destroy what is on its way.
func TestCloseWithUnreadInput(t *testing.T) {
	q, p, _ := role{prepare: func(q transport.QueuePair) { receives(t, q, 1, 4) }}.initiator(t)
	narrow(t, q, p)
	data := random(300_000)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: data})
	p.write(send(1, []byte("news")))
	require.NoError(t, q.Close())
	p.write(send(2, []byte("more")))
	got := p.sends()
	require.Len(t, got, 1)
	require.True(t, bytes.Equal(data, got[0]))
}

func TestCloseWithQueuedReads(t *testing.T) {
	sink := make([]byte, 64)
	var region transport.MemoryRegion
	q, p, _ := role{opts: &transport.Options{ORD: 1}, prepare: func(q transport.QueuePair) {
		var err error
		region, err = q.RegisterMemory(sink, transport.LocalWrite)
		require.NoError(t, err)
	}}.initiator(t)
	read := transport.SendWR{Opcode: transport.OpRead, Data: sink[:8], Region: region, RemoteSTag: 99}
	post(t, q, read, read, read, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("end")})
	require.NoError(t, q.Close())
	reads := 0
	for {
		s := p.nextOfUser()
		if s.Op == rdmap.OpSend {
			require.Equal(t, "end", string(s.Payload))
			break
		}
		require.Equal(t, rdmap.OpReadRequest, s.Op)
		reads++
	}
	require.Equal(t, 1, reads, "reads that nobody waits for any more are not asked for")
	p.ended()
	require.NoError(t, p.c.Close())
	wc, err := finish(t, q)
	for err == nil || len(wc) < 3 {
		var more []transport.Completion
		more, err = finish(t, q)
		wc = append(wc, more...)
	}
	require.Len(t, wc, 3)
	for _, c := range wc {
		require.Equal(t, transport.OpRead, c.Opcode)
		require.Equal(t, transport.StatusFlushed, c.Status)
	}
}

// Two ends that close while the other does not take what they have sent must not wait for each
// other.
func TestBothEndsCloseWithMuchToSend(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	p := connect(t, nil, nil, nil)
	data := make([]byte, 300_000)
	post(t, p.b, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain})
	for _, q := range []transport.QueuePair{p.a, p.b} {
		narrow(t, q, nil)
		require.NoError(t, q.(*soft.QueuePair).SetReadBuffer(16<<10))
		post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: data})
	}
	require.NoError(t, p.a.Close())
	require.NoError(t, p.b.Close())
	for start := time.Now(); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(start), limit/2)
	}
}

func TestAbortResets(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	waiting := make(chan error, 1)
	go func() { waiting <- q.Wait(soon()) }()
	require.NoError(t, q.Abort())
	require.ErrorIs(t, <-waiting, net.ErrClosed)
	require.Equal(t, transport.StateError, q.State())
	require.ErrorIs(t, q.Abort(), transport.ErrClosed)
	require.ErrorIs(t, q.Close(), transport.ErrClosed)
	_, err := p.c.Read(make([]byte, 1))
	require.ErrorContains(t, err, "connection reset by peer")
}

func TestUseAfterClose(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	local, remote := q.LocalAddr(), q.RemoteAddr()
	r, err := q.RegisterMemory(make([]byte, 8), transport.LocalWrite)
	require.NoError(t, err)
	require.NoError(t, p.c.CloseWrite())
	require.NoError(t, q.Close())
	p.ended()

	require.ErrorIs(t, q.Close(), transport.ErrClosed)
	require.ErrorIs(t, q.Abort(), net.ErrClosed)
	require.ErrorIs(t, q.Wait(soon()), net.ErrClosed)
	require.Zero(t, q.Poll(make([]transport.Completion, 1)))
	_, err = q.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}})
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = q.PostRecv([]transport.RecvWR{{Data: make([]byte, 1), Region: r}})
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = q.RegisterMemory(make([]byte, 8), 0)
	require.ErrorIs(t, err, net.ErrClosed)
	require.Error(t, r.Deregister(), "regions are gone")
	require.Equal(t, transport.ErrClosed, q.Err())
	if runtime.GOOS != "windows" {
		require.Equal(t, transport.StateError, q.State(), "the peer had closed first, so nothing is left to be done")
	}
	require.Equal(t, local, q.LocalAddr())
	require.Equal(t, remote, q.RemoteAddr())
	q.Interrupt()
}
func TestRegionRevokedWhileItIsRead(t *testing.T) {
	q, p, region := halfAnswered(t)
	require.NoError(t, region.Deregister())
	// Nobody calls q any more. Still the peer is told, when it takes what is on its way.
	msg := p.terminated()
	require.Equal(t, [3]uint8{0, 1, 0}, [3]uint8{msg.Layer, msg.Type, msg.Code})
	_, err := finish(t, q)
	var te *transport.TerminateError
	require.ErrorAs(t, err, &te)
	require.True(t, te.Local)
}

// As long as the peer takes something now and then it gets all of it, although what it sends
// meanwhile would be answered with a reset if the connection was closed too soon.
func TestCloseWaitsForASlowReader(t *testing.T) {
	const patience = 500 * time.Millisecond
	q, p, _ := role{}.initiator(t)
	require.NoError(t, p.c.SetReadBuffer(16<<10))
	require.NoError(t, q.SetMaxSegment(2<<10))
	data := random(400_000)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: data})
	require.NoError(t, q.Close())
	pace := time.NewTicker(patience / 50)
	defer pace.Stop()
	var got []byte
	for start := time.Now(); len(got) < len(data); {
		s, err := p.segment()
		require.NoError(t, err, "after %d bytes", len(got))
		got = append(got, s.Payload...)
		if time.Since(start) < 3*patience {
			<-pace.C
			p.write(rtrWrite())
		}
	}
	require.True(t, bytes.Equal(data, got))
}
