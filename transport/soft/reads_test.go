package soft_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// A reader is a queue pair with reads of 16 bytes each, posted to a raw peer.
type reader struct {
	q      transport.QueuePair
	p      *rawPeer
	sink   []byte
	region transport.MemoryRegion
}

func newReader(t testing.TB, opts *transport.Options) *reader {
	t.Helper()
	x := &reader{sink: make([]byte, 256)}
	x.q, x.p, _ = role{opts: opts, prepare: func(q transport.QueuePair) {
		x.region = register(t, q, x.sink, transport.LocalWrite)
	}}.initiator(t)
	return x
}

func (x *reader) wr(i int) transport.SendWR {
	return transport.SendWR{ID: uint64(i), Opcode: transport.OpRead, Flags: transport.Signaled, Data: x.sink[16*i:][:16], Region: x.region,
		RemoteSTag: 0xabc, RemoteOffset: uint64(1000 + i)}
}

// request reads a Read Request with the given MSN.
func (x *reader) request(t testing.TB, msn uint32) rdmap.ReadRequest {
	t.Helper()
	s := x.p.nextOfUser()
	require.Equal(t, rdmap.OpReadRequest, s.Op)
	require.Equal(t, msn, s.U.MSN)
	r, err := rdmap.ParseReadRequest(s.Payload)
	require.NoError(t, err)
	return r
}

func answer(r rdmap.ReadRequest, last bool, off int, p []byte) []byte {
	return tagged(rdmap.OpReadResponse, last, transport.STag(r.SinkSTag), r.SinkTO+uint64(off), p)
}

func TestRead(t *testing.T) {
	x := newReader(t, nil)
	post(t, x.q, x.wr(0), x.wr(3))
	r := x.request(t, 1)
	require.Equal(t, rdmap.ReadRequest{SinkSTag: uint32(x.region.STag()), Size: 16, SrcSTag: 0xabc, SrcTO: 1000}, r)
	s := x.request(t, 2)
	require.Equal(t, rdmap.ReadRequest{SinkSTag: uint32(x.region.STag()), SinkTO: 48, Size: 16, SrcSTag: 0xabc, SrcTO: 1003}, s)
	// In one segment, and in four with nothing in the last.
	p := random(16)
	x.p.write(concat(answer(r, true, 0, p), answer(s, false, 0, p[:1]), answer(s, false, 1, p[1:8]), answer(s, false, 8, p[8:]), answer(s, true, 16, nil)))
	require.Equal(t, transport.Completion{ID: 0, Opcode: transport.OpRead, Bytes: 16}, next(t, x.q))
	require.Equal(t, transport.Completion{ID: 3, Opcode: transport.OpRead, Bytes: 16}, next(t, x.q))
	require.Equal(t, p, x.sink[:16])
	require.Equal(t, p, x.sink[48:64])
	require.NoError(t, x.q.Drain(soon()))

	post(t, x.q, transport.SendWR{ID: 4, Opcode: transport.OpRead, Flags: transport.Signaled, Region: x.region})
	r = x.request(t, 3)
	require.Zero(t, r.Size)
	x.p.write(answer(r, true, 0, nil))
	require.Equal(t, transport.Completion{ID: 4, Opcode: transport.OpRead}, next(t, x.q))
}

func TestFaultsInReadResponses(t *testing.T) {
	p := random(32)
	for name, tc := range map[string]struct {
		sends func(r rdmap.ReadRequest) []byte
		want  *rdmap.Error
	}{
		"stag": {func(r rdmap.ReadRequest) []byte {
			r.SinkSTag++
			return answer(r, true, 0, p[:16])
		}, rdmap.ErrInvalidSTagTagged},
		"offset":             {func(r rdmap.ReadRequest) []byte { return answer(r, true, 1, p[:16]) }, rdmap.ErrBaseBounds},
		"offset wraps":       {func(r rdmap.ReadRequest) []byte { return answer(r, true, -1, p[:16]) }, rdmap.ErrBaseBounds},
		"too long":           {func(r rdmap.ReadRequest) []byte { return answer(r, true, 0, p[:17]) }, rdmap.ErrBaseBounds},
		"too long, not last": {func(r rdmap.ReadRequest) []byte { return answer(r, false, 0, p) }, rdmap.ErrBaseBounds},
		"too long in all": {func(r rdmap.ReadRequest) []byte {
			return concat(answer(r, false, 0, p[:16]), answer(r, false, 16, p[:1]))
		}, rdmap.ErrBaseBounds},
		"too short":         {func(r rdmap.ReadRequest) []byte { return answer(r, true, 0, p[:15]) }, rdmap.ErrBaseBounds},
		"nothing":           {func(r rdmap.ReadRequest) []byte { return answer(r, true, 0, nil) }, rdmap.ErrBaseBounds},
		"nothing, not last": {func(r rdmap.ReadRequest) []byte { return answer(r, false, 0, nil) }, rdmap.ErrBaseBounds},
		"gap": {func(r rdmap.ReadRequest) []byte {
			return concat(answer(r, false, 0, p[:4]), answer(r, true, 8, p[:12]))
		}, rdmap.ErrBaseBounds},
		"twice": {func(r rdmap.ReadRequest) []byte {
			return concat(answer(r, true, 0, p[:16]), answer(r, true, 0, p[:16]))
		}, rdmap.ErrInvalidSTagTagged},
	} {
		t.Run(name, func(t *testing.T) {
			x := newReader(t, nil)
			post(t, x.q, x.wr(2))
			x.p.write(tc.sends(x.request(t, 1)))
			wc, err := finish(t, x.q)
			var te *transport.TerminateError
			require.ErrorAs(t, err, &te)
			require.Equal(t, [3]uint8{tc.want.Layer, tc.want.Type, tc.want.Code}, [3]uint8{te.Layer, te.Type, te.Code})
			msg := x.p.terminated()
			require.Equal(t, [3]uint8{tc.want.Layer, tc.want.Type, tc.want.Code}, [3]uint8{msg.Layer, msg.Type, msg.Code})
			require.Len(t, wc, 1)
			require.Equal(t, name == "twice", wc[0].Status == transport.StatusSuccess)
			require.Equal(t, make([]byte, 32), x.sink[:32])
			require.Equal(t, make([]byte, 256-48), x.sink[48:], "nothing outside the sink")
		})
	}
}

func TestReadToADeregisteredSink(t *testing.T) {
	x := newReader(t, nil)
	post(t, x.q, x.wr(0))
	r := x.request(t, 1)
	require.NoError(t, x.region.Deregister())
	x.p.write(answer(r, true, 0, random(16)))
	wc, err := finish(t, x.q)
	require.ErrorContains(t, err, "invalid STag")
	require.Equal(t, transport.StatusFlushed, wc[0].Status)
	require.Equal(t, make([]byte, 16), x.sink[:16])
}

// No more reads are in flight than the peer serves. The others wait, without holding back anything
// but what comes after them.
func TestReadsWaitForTheirTurn(t *testing.T) {
	x := newReader(t, &transport.Options{ORD: 2})
	require.Equal(t, 2, x.q.Attributes().ORD)
	post(t, x.q, x.wr(0), x.wr(1), x.wr(2), x.wr(3), transport.SendWR{ID: 4, Opcode: transport.OpSend, Flags: transport.Inline | transport.Signaled})
	p := random(16)
	first := x.request(t, 1)
	second := x.request(t, 2)
	x.p.silent(20 * time.Millisecond)
	x.p.write(answer(first, true, 0, p))
	require.EqualValues(t, 0, next(t, x.q).ID)
	third := x.request(t, 3)
	x.p.silent(20 * time.Millisecond)
	x.p.write(concat(answer(second, true, 0, p), answer(third, true, 0, p)))
	require.EqualValues(t, 1, next(t, x.q).ID)
	require.EqualValues(t, 2, next(t, x.q).ID)
	fourth := x.request(t, 4)
	require.Equal(t, rdmap.OpSend, x.p.nextOfUser().Op)
	x.p.write(answer(fourth, true, 0, p))
	// The Send had left before, but completions keep the order of the requests.
	require.EqualValues(t, 3, next(t, x.q).ID)
	require.EqualValues(t, 4, next(t, x.q).ID)
}

func TestFence(t *testing.T) {
	x := newReader(t, nil)
	note := transport.SendWR{ID: 7, Opcode: transport.OpSend, Flags: transport.Inline | transport.Fence, Data: []byte("fenced")}
	post(t, x.q, x.wr(0), note)
	r := x.request(t, 1)
	x.p.silent(20 * time.Millisecond)
	// Nobody waits and nobody drains, yet the request goes out when it may.
	x.p.write(answer(r, true, 0, random(16)))
	s := x.p.nextOfUser()
	require.Equal(t, rdmap.OpSend, s.Op)
	require.Equal(t, "fenced", string(s.Payload))
	require.EqualValues(t, 0, next(t, x.q).ID)
	require.NoError(t, x.q.Drain(soon()))
}

func TestAnswersToThePeersReads(t *testing.T) {
	var region transport.MemoryRegion
	src := random(1 << 20)
	q, p, _ := role{opts: &transport.Options{IRD: 4}, prepare: func(q transport.QueuePair) {
		receives(t, q, 1, 4)
		region = register(t, q, src, transport.RemoteRead)
	}}.responder(t)
	var asks []byte
	for i := range 4 {
		asks = append(asks, readRequest(uint32(i+1), rdmap.ReadRequest{SinkSTag: uint32(i), SinkTO: 1<<64 - 10, Size: uint32(len(src) >> i),
			SrcSTag: uint32(region.STag())})...)
	}
	p.write(asks)
	for i := range 4 {
		var got []byte
		for last := false; !last; {
			s := p.next()
			require.Equal(t, rdmap.OpReadResponse, s.Op)
			require.EqualValues(t, i, s.T.STag)
			to := uint64(len(got))
			to -= 10 // the peer's offsets are its own business
			require.Equal(t, to, s.T.TO)
			got, last = append(got, s.Payload...), s.T.Last
		}
		require.Equal(t, src[:len(src)>>i], got)
	}
	// Their places are free again.
	p.write(concat(readRequest(5, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(region.STag()), SrcTO: uint64(len(src) - 4)}), send(1, nil)))
	require.Equal(t, src[len(src)-4:], p.next().Payload)
	require.Equal(t, transport.OpRecv, next(t, q).Opcode)
	require.Equal(t, 16, q.Attributes().IRD, "raised to the peer's depth")
}
