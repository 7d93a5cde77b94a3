package soft_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// Empty FPDUs are handled some at a time, whoever reads. What comes after them arrives
// nevertheless, and a call among them ends when it is told to.
func TestFloodOfNothing(t *testing.T) {
	const many = 3000
	for name, tc := range map[string]struct {
		fpdu  func(x *target) []byte
		serve transport.Access // CallerDriven, or served by a goroutine
	}{
		"Writes to nowhere":        {func(*target) []byte { return rtrWrite() }, transport.CallerDriven},
		"Writes to a region":       {func(x *target) []byte { return write(x.ring, 3, nil) }, transport.CallerDriven},
		"Writes to served regions": {func(x *target) []byte { return write(x.ring, 3, nil) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			x := &target{}
			q, p, _ := role{prepare: func(q transport.QueuePair) {
				x.ring = register(t, q, make([]byte, 64), transport.RemoteWrite|tc.serve).STag()
				receives(t, q, 1, 4)
			}}.responder(t)
			p.write(bytes.Repeat(tc.fpdu(x), many))
			if tc.serve == transport.CallerDriven {
				for soft.Arrived(q.(*soft.QueuePair)) == 0 {
					require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Now().Add(time.Millisecond)))
				}
				require.Less(t, soft.Arrived(q.(*soft.QueuePair)), many, "handled within one millisecond")
			}
			waiting := make(chan error, 1)
			go func() { waiting <- q.Wait(soon()) }()
			q.Interrupt()
			require.Equal(t, transport.ErrInterrupted, <-waiting)
			p.write(send(1, []byte("news")))
			require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: 4}, next(t, q))
			require.EqualValues(t, many+1, soft.Arrived(q.(*soft.QueuePair)))
		})
	}
}

// Empty RDMA Reads cost an answer each.
func TestFloodOfReadsOfNothing(t *testing.T) {
	const many, depth = 640, 16
	q, p, _ := role{prepare: func(q transport.QueuePair) { receives(t, q, 1, 4) }}.responder(t)
	go func() {
		for i := uint32(1); i < many; i += depth {
			var b []byte
			for j := range uint32(depth) {
				b = append(b, readRequest(i+j, rdmap.ReadRequest{SinkSTag: 7})...)
			}
			if _, err := p.c.Write(b); err != nil {
				return
			}
			for range depth {
				if _, err := p.segment(); err != nil {
					return
				}
			}
		}
		_, _ = p.c.Write(send(1, []byte("news")))
	}()
	require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: 4}, next(t, q))
	require.EqualValues(t, many+1, soft.Arrived(q.(*soft.QueuePair)))
}

// Small FPDUs with something in them are not held up, only interrupted for others.
func TestManySmallWrites(t *testing.T) {
	const many = 4000
	mem := make([]byte, many)
	var r transport.MemoryRegion
	q, p, _ := role{prepare: func(q transport.QueuePair) {
		r = register(t, q, mem, transport.RemoteWrite|transport.CallerDriven)
		receives(t, q, 1, 4)
	}}.responder(t)
	var b []byte
	for i := range many {
		b = append(b, write(r.STag(), uint64(i), []byte{byte(i)})...)
	}
	p.write(append(b, send(1, nil)...))
	require.Equal(t, transport.StatusSuccess, next(t, q).Status)
	for i := range mem {
		require.Equal(t, byte(i), mem[i])
	}
}
