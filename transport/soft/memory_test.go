package soft_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

func TestRegisterMemory(t *testing.T) {
	q, _, _ := role{}.initiator(t)
	_, err := q.RegisterMemory(nil, transport.RemoteWrite)
	require.ErrorContains(t, err, "empty")
	_, err = q.(transport.PlacerRegistrar).RegisterPlacer(0, placerFunc(nil))
	require.ErrorContains(t, err, "empty")
	seen := map[transport.STag]bool{}
	for range 1000 {
		r := register(t, q, make([]byte, 3), 0)
		require.EqualValues(t, 3, r.Len())
		require.Zero(t, r.Base())
		require.False(t, seen[r.STag()])
		require.Greater(t, r.STag(), transport.STag(1))
		seen[r.STag()] = true
		require.NoError(t, r.Deregister())
		require.Error(t, r.Deregister())
	}
}

func TestPostSendRefuses(t *testing.T) {
	other, _, _ := role{}.initiator(t)
	q, _, _ := role{opts: &transport.Options{SendDepth: 3}}.initiator(t)
	mem := make([]byte, 64)
	region := register(t, q, mem, transport.LocalWrite)
	remote := register(t, q, make([]byte, 64), transport.RemoteRead|transport.CallerDriven)
	dead := register(t, q, make([]byte, 64), transport.LocalWrite)
	require.NoError(t, dead.Deregister())
	foreign := register(t, other, make([]byte, 64), transport.LocalWrite)
	for _, tc := range []struct {
		name string
		wr   transport.SendWR
		want string
	}{
		{"opcode", transport.SendWR{Opcode: transport.OpRecv}, "opcode"},
		{"opcode out of range", transport.SendWR{Opcode: 77}, "opcode"},
		{"send without region", transport.SendWR{Opcode: transport.OpSend, Data: mem[:1]}, "region"},
		{"send of foreign region", transport.SendWR{Opcode: transport.OpSend, Data: mem[:1], Region: foreign}, "region"},
		{"send of deregistered region", transport.SendWR{Opcode: transport.OpSend, Data: mem[:1], Region: dead}, "region"},
		{"write of memory outside", transport.SendWR{Opcode: transport.OpWrite, Data: make([]byte, 8), Region: region}, "does not lie in"},
		{"write of memory past the end", transport.SendWR{Opcode: transport.OpWrite, Data: append(mem, 1), Region: region}, "does not lie in"},
		{"read inline", transport.SendWR{Opcode: transport.OpRead, Data: mem, Region: region, Flags: transport.Inline}, "inline"},
		{"read without region", transport.SendWR{Opcode: transport.OpRead, Data: mem}, "region"},
		{"read without right", transport.SendWR{Opcode: transport.OpRead, Data: mem, Region: remote}, "region"},
		{"read to memory outside", transport.SendWR{Opcode: transport.OpRead, Data: make([]byte, 8), Region: region}, "does not lie in"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			good := transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline}
			n, err := q.PostSend([]transport.SendWR{good, tc.wr, good})
			require.Equal(t, 1, n)
			require.ErrorContains(t, err, tc.want)
			require.NoError(t, q.Drain(soon()))
		})
	}
	none, _, _ := role{opts: &transport.Options{ORD: -1}}.initiator(t)
	_, err := none.PostSend([]transport.SendWR{{Opcode: transport.OpRead, Data: mem[:0], Region: register(t, none, mem, transport.LocalWrite)}})
	require.ErrorContains(t, err, "no rdma reads")
	require.Zero(t, none.Attributes().ORD)
}

func TestPostRecvRefuses(t *testing.T) {
	other, _, _ := role{}.initiator(t)
	q, _, _ := role{opts: &transport.Options{RecvDepth: 3}}.initiator(t)
	mem := make([]byte, 64)
	region := register(t, q, mem, transport.LocalWrite)
	dead := register(t, q, make([]byte, 64), transport.LocalWrite)
	require.NoError(t, dead.Deregister())
	for name, wr := range map[string]transport.RecvWR{
		"no region":           {Data: mem},
		"foreign region":      {Data: mem, Region: register(t, other, make([]byte, 64), transport.LocalWrite)},
		"deregistered region": {Data: mem, Region: dead},
		"no right":            {Data: mem, Region: register(t, q, make([]byte, 64), 0)},
		"memory outside":      {Data: make([]byte, 64), Region: region},
	} {
		n, err := q.PostRecv([]transport.RecvWR{wr})
		require.Error(t, err, name)
		require.Zero(t, n, name)
	}
	wr := transport.RecvWR{Data: mem[8:16], Region: region}
	n, err := q.PostRecv([]transport.RecvWR{wr, wr, {Region: region}, wr})
	require.Equal(t, 3, n)
	require.Equal(t, transport.ErrQueueFull, err)
}

func TestDeregisterWhatIsSent(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	narrow(t, q, p)
	require.NoError(t, q.SetMaxSegment(32<<10))
	data := random(1 << 20)
	want := bytes.Clone(data)
	region := register(t, q, data, 0)
	post(t, q, transport.SendWR{ID: 3, Opcode: transport.OpSend, Data: data, Region: region},
		transport.SendWR{ID: 4, Opcode: transport.OpSend, Data: data[:10], Region: region})
	require.NoError(t, region.Deregister())
	clear(data)
	var got []byte
	for {
		s := p.next()
		if s.Op == rdmap.OpTerminate {
			require.Equal(t, []byte{0, 0}, s.Payload[:2], "local catastrophic error")
			break
		}
		got = append(got, s.Payload...)
	}
	require.Less(t, len(got), len(want))
	require.True(t, bytes.Equal(want[:len(got)], got))
	wc, err := finish(t, q)
	require.Equal(t, []transport.Completion{
		{ID: 3, Opcode: transport.OpSend, Status: transport.StatusLocalProtection},
		{ID: 4, Opcode: transport.OpSend, Status: transport.StatusFlushed}}, wc)
	require.ErrorAs(t, err, new(*transport.TerminateError))
}

func TestDeregisterAReceive(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	mem := make([]byte, 8)
	region := register(t, q, mem, transport.LocalWrite)
	wr := transport.RecvWR{ID: 4, Data: mem, Region: region}
	_, err := q.PostRecv([]transport.RecvWR{wr, wr})
	require.NoError(t, err)
	p.write(send(1, nil))
	require.Equal(t, transport.StatusSuccess, next(t, q).Status)
	require.NoError(t, region.Deregister())
	p.write(send(2, []byte("late")))
	wc, err := finish(t, q)
	require.Equal(t, []transport.Completion{{ID: 4, Opcode: transport.OpRecv, Status: transport.StatusLocalProtection}}, wc)
	require.ErrorAs(t, err, new(*transport.TerminateError))
	require.Equal(t, make([]byte, 8), mem)
	msg := p.terminated()
	require.Equal(t, [2]uint8{1, 0}, [2]uint8{msg.Layer, msg.Type})
}

func TestDeregisterWhileThePeerWrites(t *testing.T) {
	for range 20 {
		mem := make([]byte, 4096)
		var region transport.MemoryRegion
		q, p, _ := role{prepare: func(q transport.QueuePair) {
			receives(t, q, 1, 4)
			region = register(t, q, mem, transport.RemoteWrite)
		}}.responder(t)
		p.write(send(1, nil))
		written := make(chan struct{})
		go func() {
			defer close(written)
			for i := range 1 << 20 {
				if _, err := p.c.Write(write(region.STag(), 0, bytes.Repeat([]byte{byte(i)}, 4096))); err != nil {
					return
				}
			}
		}()
		require.Equal(t, transport.OpRecv, next(t, q).Opcode)
		require.NoError(t, region.Deregister())
		after := bytes.Clone(mem)
		_, err := finish(t, q)
		var te *transport.TerminateError
		require.ErrorAs(t, err, &te)
		require.Equal(t, [3]uint8{1, 1, 0}, [3]uint8{te.Layer, te.Type, te.Code})
		require.Equal(t, after, mem)
		require.NoError(t, q.Close())
		p.c.Close()
		<-written
	}
}

func TestInvalidate(t *testing.T) {
	for _, op := range []rdmap.Opcode{rdmap.OpSendInvalidate, rdmap.OpSendSEInvalidate} {
		var x target
		q, p, _ := role{prepare: x.prepare(t)}.responder(t)
		p.write(concat(write(x.ring, 0, []byte("before")), untagged(untaggedHeader{op: op, invalidate: x.ring}, nil), write(x.ring, 0, []byte("behind"))))
		require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Solicited: op.Solicited(), Invalidated: x.ring}, next(t, q))
		_, err := finish(t, q)
		require.ErrorContains(t, err, "invalid STag")
		require.Equal(t, "before", string(x.mem[:6]))
	}
}

func TestOwnInvalidate(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	post(t, q, transport.SendWR{Opcode: transport.OpSendInvalidate, Flags: transport.Inline, Invalidate: 0x12345678, Data: []byte("a")},
		transport.SendWR{Opcode: transport.OpSendInvalidate, Flags: transport.Inline | transport.Solicited, Invalidate: 0x12345679},
		transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.Solicited, Invalidate: 7})
	for _, want := range []struct {
		op   rdmap.Opcode
		stag uint32
	}{{rdmap.OpSendInvalidate, 0x12345678}, {rdmap.OpSendSEInvalidate, 0x12345679}, {rdmap.OpSendSE, 0}} {
		s := p.next()
		require.Equal(t, want.op, s.Op)
		require.Equal(t, want.stag, s.U.ULPWord)
	}
}

func TestPlacer(t *testing.T) {
	var got []byte
	var offsets []uint64
	var placer transport.MemoryRegion
	q, p, _ := role{prepare: func(q transport.QueuePair) {
		receives(t, q, 1, 4)
		var err error
		placer, err = q.(transport.PlacerRegistrar).RegisterPlacer(1<<40, placerFunc(func(off uint64, p []byte) (bool, error) {
			got, offsets = append(got, p...), append(offsets, off)
			return false, nil
		}))
		require.NoError(t, err)
	}}.responder(t)
	p.write(concat(tagged(rdmap.OpWrite, false, placer.STag(), 1<<39, []byte("one ")),
		tagged(rdmap.OpWrite, true, placer.STag(), 1<<39+4, []byte("two")), write(placer.STag(), 1<<40, nil), send(1, nil)))
	require.Equal(t, transport.OpRecv, next(t, q).Opcode)
	require.Equal(t, "one two", string(got))
	require.Equal(t, []uint64{1 << 39, 1<<39 + 4}, offsets)
}

// What a Placer calls news ends a Wait, once.
func TestPlacerNews(t *testing.T) {
	for name, second := range map[string]func(q transport.QueuePair) (stop func()){
		"driver": func(transport.QueuePair) func() { return func() {} },
		// Drain reads the socket because its RDMA Read is not answered, so Wait follows.
		"follower": func(q transport.QueuePair) func() {
			mem := make([]byte, 8)
			r := register(t, q, mem, transport.LocalWrite)
			post(t, q, transport.SendWR{Opcode: transport.OpRead, Data: mem, Region: r, RemoteSTag: 7})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for q.Err() == nil {
					q.Drain(noDeadline)
				}
			}()
			return func() { q.Abort(); <-done }
		},
	} {
		t.Run(name, func(t *testing.T) {
			var placer transport.MemoryRegion
			quiet := make(chan struct{}, 1)
			q, p, _ := role{prepare: func(q transport.QueuePair) {
				var err error
				placer, err = q.(transport.PlacerRegistrar).RegisterPlacer(64, placerFunc(func(off uint64, p []byte) (bool, error) {
					if off > 0 {
						quiet <- struct{}{}
					}
					return off == 0, nil
				}))
				require.NoError(t, err)
			}}.initiator(t)
			defer second(q)()
			for range 3 {
				waiting := make(chan error, 1)
				go func() { waiting <- q.Wait(soon()) }()
				time.Sleep(time.Millisecond) // not needed for the result: it makes a Wait that is blocked the usual case
				p.write(write(placer.STag(), 0, []byte("news")))
				require.NoError(t, <-waiting)
				require.Zero(t, q.Poll(make([]transport.Completion, 1)))
				require.ErrorIs(t, q.Wait(time.Now()), os.ErrDeadlineExceeded, "it was told before")
			}
			go func() { <-quiet; q.Interrupt() }()
			p.write(write(placer.STag(), 1, []byte("no news")))
			require.ErrorIs(t, q.Wait(soon()), transport.ErrInterrupted)
		})
	}
}
