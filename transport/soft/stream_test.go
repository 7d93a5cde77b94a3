package soft_test

import (
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// dialogue is one of everything that a peer may send.
func dialogue(x *target) []byte {
	return concat(
		rtrWrite(),
		tagged(rdmap.OpWrite, false, x.ring, 8, []byte("written")),
		tagged(rdmap.OpWrite, true, x.ring, 15, []byte(" in two")),
		readRequest(1, rdmap.ReadRequest{SinkSTag: 0xa1, SinkTO: 1 << 40, Size: 9, SrcSTag: uint32(x.readable), SrcTO: 3}),
		untagged(untaggedHeader{op: rdmap.OpSend, more: true}, []byte("sent ")),
		untagged(untaggedHeader{op: rdmap.OpSend, mo: 5}, []byte("in two")),
		readRequest(2, rdmap.ReadRequest{SinkSTag: 0xa2, SinkTO: 7}),
		untagged(untaggedHeader{op: rdmap.OpSendSE, msn: 2}, []byte("x")),
	)
}

// verify waits for what dialogue brings about.
func (x *target) verify(t testing.TB, p *rawPeer) {
	t.Helper()
	require.Equal(t, transport.Completion{ID: 0, Opcode: transport.OpRecv, Bytes: 11}, next(t, x.q))
	require.Equal(t, transport.Completion{ID: 1, Opcode: transport.OpRecv, Bytes: 1, Solicited: true}, next(t, x.q))
	require.Equal(t, "sent in two", string(x.recv[:11]))
	require.Equal(t, "x", string(x.recv[16:17]))
	require.Equal(t, "written in two", string(x.mem[8:22]))
	s := p.next()
	require.Equal(t, rdmap.OpReadResponse, s.Op)
	require.True(t, s.T.Last)
	require.EqualValues(t, 0xa1, s.T.STag)
	require.Equal(t, uint64(1<<40), s.T.TO)
	require.Equal(t, x.source[3:12], s.Payload)
	s = p.next()
	require.Equal(t, rdmap.OpReadResponse, s.Op)
	require.EqualValues(t, 0xa2, s.T.STag)
	require.EqualValues(t, 7, s.T.TO)
	require.Empty(t, s.Payload)
	require.NoError(t, x.q.Err())
}

func TestStreamCutAtEveryByte(t *testing.T) {
	t.Parallel()
	var x target
	for cut, total := 0, 1; cut < total; cut++ {
		_, p, _ := role{prepare: x.prepare(t)}.responder(t)
		all := dialogue(&x)
		total = len(all)
		p.write(all[:cut])
		// Takes the first part, in case it is there already.
		_ = x.q.Wait(time.Now().Add(100 * time.Microsecond))
		p.write(all[cut:])
		x.verify(t, p)
		require.NoError(t, p.c.Close())
		require.NoError(t, x.q.Close())
	}
}

func TestStreamByteByByte(t *testing.T) {
	t.Parallel()
	x, p := connectTarget(t, nil)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, b := range dialogue(x) {
			if _, err := p.c.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	x.verify(t, p)
	<-sent
}

func TestStreamGluedToTheReply(t *testing.T) {
	var x target
	// The STags are not known yet, so what is glued is what needs none.
	glued := concat(rtrWrite(), send(1, []byte("glued")), send(2, []byte("too"))[:9])
	_, p, _ := role{glued: glued, prepare: x.prepare(t)}.initiator(t)
	require.Equal(t, 5, next(t, x.q).Bytes)
	p.write(send(2, []byte("too"))[9:])
	require.Equal(t, 3, next(t, x.q).Bytes)
	require.Equal(t, "glued", string(x.recv[:5]))
	require.Equal(t, "too", string(x.recv[16:19]))
}

func TestEndOfStream(t *testing.T) {
	part := func(b []byte, n int) []byte { return b[:n] }
	for name, tc := range map[string]struct {
		sends func(x *target) []byte
		want  error
	}{
		"at once":                   {func(*target) []byte { return nil }, io.EOF},
		"behind a send":             {func(*target) []byte { return send(1, payload(5)) }, io.EOF},
		"behind a write":            {func(x *target) []byte { return write(x.ring, 0, payload(5)) }, io.EOF},
		"behind a message of two":   {func(x *target) []byte { return dialogue(x) }, io.EOF},
		"after one byte":            {func(*target) []byte { return part(send(1, nil), 1) }, io.ErrUnexpectedEOF},
		"before the last byte":      {func(*target) []byte { return part(send(1, nil), 23) }, io.ErrUnexpectedEOF},
		"within the second fpdu":    {func(*target) []byte { return part(concat(send(1, nil), send(2, nil)), 30) }, io.ErrUnexpectedEOF},
		"within a send":             {func(*target) []byte { return untagged(untaggedHeader{op: rdmap.OpSend, more: true}, payload(4)) }, io.ErrUnexpectedEOF},
		"within a send, none of it": {func(*target) []byte { return untagged(untaggedHeader{op: rdmap.OpSend, more: true}, nil) }, io.ErrUnexpectedEOF},
		"within a write":            {func(x *target) []byte { return tagged(rdmap.OpWrite, false, x.ring, 0, payload(4)) }, io.ErrUnexpectedEOF},
		"within a write, then a send": {func(x *target) []byte {
			return concat(tagged(rdmap.OpWrite, false, x.ring, 0, payload(4)), send(1, nil))
		}, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			x, p := connectTarget(t, nil)
			p.write(tc.sends(x))
			require.NoError(t, p.c.CloseWrite())
			wc, err := finish(t, x.q)
			require.Equal(t, tc.want, err, "the error itself")
			require.Equal(t, tc.want, x.q.Err())
			require.Equal(t, transport.StateError, x.q.State())
			require.Len(t, wc, 2)
			require.NoError(t, x.q.Close())
			require.Equal(t, tc.want, x.q.Err())
			if len(tc.sends(x)) == 0 {
				p.ended()
			}
		})
	}
}

func TestResetByThePeer(t *testing.T) {
	x, p := connectTarget(t, nil)
	waiting := make(chan error, 1)
	go func() {
		_, err := finish(t, x.q)
		waiting <- err
	}()
	require.NoError(t, p.c.SetLinger(0))
	require.NoError(t, p.c.Close())
	require.ErrorIs(t, <-waiting, syscall.ECONNRESET)
	require.ErrorIs(t, x.q.Err(), syscall.ECONNRESET)
	_, err := x.q.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}})
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestStallWithinAnFPDU(t *testing.T) {
	cfg := &soft.Config{StallTimeout: 40 * time.Millisecond}
	for name, exposed := range map[string]bool{"somebody waits": false, "memory is exposed": true} {
		t.Run(name, func(t *testing.T) {
			q, p, _ := role{cfg: cfg, prepare: func(q transport.QueuePair) {
				receives(t, q, 2, 4)
				if exposed {
					_ = register(t, q, make([]byte, 8), transport.RemoteWrite)
				}
			}}.responder(t)
			// Between two FPDUs a peer may be silent for as long as it likes.
			p.write(send(1, nil))
			require.Equal(t, transport.StatusSuccess, next(t, q).Status)
			require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Now().Add(60*time.Millisecond)))
			start := time.Now()
			p.write(send(2, nil)[:20])
			_, err := finish(t, q)
			require.ErrorIs(t, err, syscall.ETIMEDOUT)
			require.GreaterOrEqual(t, time.Since(start), cfg.StallTimeout)
			require.Equal(t, transport.StateError, q.State())
		})
	}
}

// A deadline before the stall is just a deadline.
func TestDeadlineWithinAnFPDU(t *testing.T) {
	q, p, _ := role{cfg: &soft.Config{StallTimeout: time.Hour}}.responder(t)
	p.write(send(1, nil)[:20])
	for soft.Staging(q.(*soft.QueuePair)) == 0 {
		require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Now().Add(time.Millisecond)))
	}
	soft.AgeFPDU(q.(*soft.QueuePair), time.Hour)
	_, err := finish(t, q)
	require.ErrorIs(t, err, syscall.ETIMEDOUT)
}

// A peer that sends a byte now and then makes no progress either.
func TestStallByDribbling(t *testing.T) {
	q, p, _ := role{cfg: &soft.Config{StallTimeout: 50 * time.Millisecond}}.responder(t)
	over := make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for _, b := range send(1, make([]byte, 10000)) {
			if _, err := p.c.Write([]byte{b}); err != nil {
				return
			}
			<-tick.C
		}
	}()
	_, err := finish(t, q)
	require.ErrorIs(t, err, syscall.ETIMEDOUT)
	require.NoError(t, q.Close())
	<-over
}

// By default a peer may be suspended in the middle of an FPDU for as long as it likes.
func TestNoStallTimeout(t *testing.T) {
	for name, cfg := range map[string]*soft.Config{"default": nil, "zero": {}, "negative": {StallTimeout: -1}} {
		t.Run(name, func(t *testing.T) {
			q, p, _ := role{cfg: cfg, prepare: func(q transport.QueuePair) { receives(t, q, 1, 4) }}.responder(t)
			b := send(1, nil)
			p.write(b[:9])
			for range 2 {
				require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Now().Add(5*time.Millisecond)))
				soft.AgeFPDU(q.(*soft.QueuePair), 24*time.Hour)
			}
			p.write(b[9:])
			require.Equal(t, transport.StatusSuccess, next(t, q).Status)
		})
	}
}

func TestTerminateReceived(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes              []byte
		layer, etype, code uint8
		text               string
		read               transport.Status // of our read that was outstanding
	}{
		"crc":                 {[]byte{0x20, 2, 0, 0}, 2, 0, 2, "CRC", transport.StatusFlushed},
		"crc, as siw says it": {[]byte{0x02, 2, 0, 0}, 0, 2, 2, "from siw mpa: CRC mismatch (2/0/0x02)", transport.StatusRemoteOperation},
		"access rights":       {[]byte{0x01, 2, 0, 0}, 0, 1, 2, "access", transport.StatusRemoteAccess},
		"operation":           {[]byte{0x02, 7, 0, 0}, 0, 2, 7, "catastrophic", transport.StatusRemoteOperation},
		"bounds":              {[]byte{0x11, 1, 0xc0, 0, 0, 19}, 1, 1, 1, "bounds", transport.StatusFlushed},
		"unknown":             {[]byte{0xff, 255, 255, 255}, 15, 15, 255, "unknown", transport.StatusFlushed},
	} {
		t.Run(name, func(t *testing.T) {
			var x target
			var region transport.MemoryRegion
			sink := make([]byte, 8)
			q, p, _ := role{prepare: func(q transport.QueuePair) {
				x.prepare(t)(q)
				region = register(t, q, sink, transport.LocalWrite)
			}}.responder(t)
			p.write(rtrWrite())
			post(t, q, transport.SendWR{ID: 9, Opcode: transport.OpRead, Data: sink, Region: region, RemoteSTag: 5})
			require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Now().Add(20*time.Millisecond)))
			require.Equal(t, rdmap.OpReadRequest, p.next().Op)
			p.write(concat(terminateFPDU(tc.bytes...), write(x.ring, 0, []byte("late")), send(1, nil)))
			require.NoError(t, p.c.CloseWrite())
			wc, err := finish(t, q)
			var te *transport.TerminateError
			require.ErrorAs(t, err, &te)
			require.ErrorIs(t, err, syscall.ECONNRESET)
			require.False(t, te.Local)
			require.Equal(t, [3]uint8{tc.layer, tc.etype, tc.code}, [3]uint8{te.Layer, te.Type, te.Code})
			require.Contains(t, te.Text, tc.text)
			require.Contains(t, te.Error(), "peer terminated")
			require.Equal(t, transport.StateTerminate, q.State())
			require.Equal(t, make([]byte, 4), x.mem[:4], "nothing is placed behind it")
			require.Len(t, wc, 3)
			require.Contains(t, wc, transport.Completion{ID: 9, Opcode: transport.OpRead, Status: tc.read, Bytes: wc[0].Bytes})
			require.NoError(t, q.Close())
			p.ended() // without an answer
		})
	}
}
