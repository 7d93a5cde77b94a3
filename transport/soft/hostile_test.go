package soft_test

import (
	"bytes"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

type placerFunc func(off uint64, p []byte) (news bool, err error)

func (f placerFunc) Place(off uint64, p []byte) (bool, error) { return f(off, p) }

// A target is a queue pair with everything that a peer can aim at.
type target struct {
	q      transport.QueuePair
	mem    []byte // 64 bytes that the peer may write and read
	source []byte // 64 bytes that the peer may read
	recv   []byte // two receives of 16 bytes

	ring, readable, writable, local, placer, dead, foreign transport.STag
}

var errPlace = errors.New("refused")

func (x *target) prepare(t testing.TB) func(q transport.QueuePair) {
	return func(q transport.QueuePair) {
		x.q = q
		register := func(b []byte, a transport.Access) transport.MemoryRegion {
			r, err := q.RegisterMemory(b, a|transport.CallerDriven)
			require.NoError(t, err)
			return r
		}
		x.mem, x.source = make([]byte, 64), random(64)
		x.ring = register(x.mem, transport.RemoteRead|transport.RemoteWrite).STag()
		x.readable = register(x.source, transport.RemoteRead).STag()
		x.writable = register(make([]byte, 64), transport.RemoteWrite).STag()
		x.local = register(make([]byte, 64), transport.LocalWrite).STag()
		placer, err := q.(transport.PlacerRegistrar).RegisterPlacer(64, placerFunc(func(off uint64, _ []byte) (bool, error) {
			if off > 0 {
				return false, errPlace
			}
			return false, nil
		}))
		require.NoError(t, err)
		x.placer = placer.STag()
		dead := register(make([]byte, 64), transport.RemoteRead|transport.RemoteWrite)
		x.dead = dead.STag()
		require.NoError(t, dead.Deregister())
		x.recv = receives(t, q, 2, 16)
	}
}

// connectTarget returns a target that answers a raw peer, and one more connection whose STag is
// foreign to it.
func connectTarget(t testing.TB, opts *transport.Options) (*target, *rawPeer) {
	t.Helper()
	var other, x target
	role{prepare: other.prepare(t)}.responder(t)
	_, p, _ := role{opts: opts, prepare: x.prepare(t)}.responder(t)
	x.foreign = other.ring
	return &x, p
}

func payload(n int) []byte { return random(n) }

// faults lists what a peer can do wrong once it is connected, and the Terminate that says so.
var faults = []struct {
	name   string
	opts   *transport.Options
	sends  func(x *target) []byte
	want   *rdmap.Error
	status transport.Status // of the first receive
}{
	// RFC 5044 §8: framing
	{name: "ulpdu of nothing", sends: func(*target) []byte { return seal(nil) }, want: rdmap.ErrMPALength},
	{name: "ulpdu of one byte", sends: func(*target) []byte { return seal([]byte{0xc1}) }, want: rdmap.ErrMPALength},
	{name: "tagged header cut", sends: func(*target) []byte { return seal([]byte{0xc1, 0x40, 0, 0, 0, 1}) }, want: rdmap.ErrMPALength},
	{name: "untagged header cut", sends: func(*target) []byte { return seal(append([]byte{0x41, 0x43}, make([]byte, 15)...)) }, want: rdmap.ErrMPALength},
	{name: "read request cut", sends: func(*target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpReadRequest, qn: 1}, make([]byte, 27))
	}, want: rdmap.ErrMPALength},
	{name: "read request with payload", sends: func(*target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpReadRequest, qn: 1}, make([]byte, 29))
	}, want: rdmap.ErrMPALength},
	{name: "terminate cut", sends: func(*target) []byte { return terminateFPDU(1, 2, 3) }, want: rdmap.ErrMPALength},
	{name: "crc of a write", sends: func(x *target) []byte {
		b := write(x.ring, 0, payload(8))
		b[20] ^= 1
		return b
	}, want: rdmap.ErrMPACRC},
	{name: "crc field", sends: func(x *target) []byte {
		b := send(1, payload(8))
		b[len(b)-1] ^= 0x80
		return b
	}, want: rdmap.ErrMPACRC},
	{name: "crc of the pad", sends: func(x *target) []byte {
		b := send(1, payload(1))
		b[len(b)-5] = 1
		return b
	}, want: rdmap.ErrMPACRC},

	// RFC 5041 §7.2, RFC 5040 §4.8: versions, opcodes
	{name: "ddp version tagged", sends: func(x *target) []byte {
		return patch(write(x.ring, 0, payload(4)), func(b []byte) { b[2] = b[2]&^3 | 2 })
	}, want: rdmap.ErrDDPVersionTagged},
	{name: "ddp version untagged", sends: func(x *target) []byte {
		return patch(send(1, payload(4)), func(b []byte) { b[2] &^= 3 })
	}, want: rdmap.ErrDDPVersionUntagged},
	{name: "rdmap version", sends: func(x *target) []byte {
		return patch(send(1, payload(4)), func(b []byte) { b[3] &^= 0xc0 })
	}, want: rdmap.ErrVersion},
	{name: "opcode 8", sends: func(*target) []byte { return untagged(untaggedHeader{op: 8}, payload(8)) }, want: rdmap.ErrUnexpectedOpcode},
	{name: "opcode 15", sends: func(*target) []byte { return untagged(untaggedHeader{op: 15}, nil) }, want: rdmap.ErrUnexpectedOpcode},
	{name: "send tagged", sends: func(x *target) []byte { return tagged(rdmap.OpSend, true, x.ring, 0, nil) }, want: rdmap.ErrUnexpectedOpcode},
	{name: "write untagged", sends: func(*target) []byte { return untagged(untaggedHeader{op: rdmap.OpWrite}, nil) }, want: rdmap.ErrUnexpectedOpcode},

	// untagged buffers
	{name: "send to the read queue", sends: func(*target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpSend, qn: 1}, payload(4))
	}, want: rdmap.ErrInvalidQN},
	{name: "send to queue 4294967295", sends: func(*target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpSend, qn: 1<<32 - 1}, payload(4))
	}, want: rdmap.ErrInvalidQN},
	{name: "read request to the send queue", sends: func(*target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpReadRequest}, make([]byte, rdmap.ReadRequestLen))
	}, want: rdmap.ErrInvalidQN},
	{name: "send msn ahead", sends: func(*target) []byte { return send(2, payload(4)) }, want: rdmap.ErrMSNRange},
	{name: "send msn twice", sends: func(*target) []byte { return concat(send(1, payload(4)), send(1, payload(4))) }, want: rdmap.ErrMSNRange},
	{name: "send mo ahead", sends: func(*target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpSend, mo: 4}, payload(4))
	}, want: rdmap.ErrInvalidMO},
	{name: "send mo overlaps", sends: func(*target) []byte {
		return concat(untagged(untaggedHeader{op: rdmap.OpSend, more: true}, payload(8)),
			untagged(untaggedHeader{op: rdmap.OpSend, mo: 4}, payload(4)))
	}, want: rdmap.ErrInvalidMO},
	{name: "send begun twice", sends: func(*target) []byte {
		return concat(untagged(untaggedHeader{op: rdmap.OpSend, more: true}, payload(8)), send(1, payload(8)))
	}, want: rdmap.ErrInvalidMO},
	{name: "send without receive", sends: func(*target) []byte {
		return concat(send(1, nil), send(2, nil), send(3, nil))
	}, want: rdmap.ErrNoBuffer},
	{name: "send too long", sends: func(*target) []byte { return send(1, payload(17)) }, want: rdmap.ErrMessageTooLong, status: transport.StatusLocalLength},
	{name: "send too long in the second segment", sends: func(*target) []byte {
		return concat(untagged(untaggedHeader{op: rdmap.OpSend, more: true}, payload(16)),
			untagged(untaggedHeader{op: rdmap.OpSend, mo: 16}, payload(1)))
	}, want: rdmap.ErrMessageTooLong, status: transport.StatusLocalLength},

	// tagged buffers
	{name: "write to an unknown stag", sends: func(x *target) []byte { return write(x.ring^1, 0, payload(4)) }, want: rdmap.ErrInvalidSTagTagged},
	{name: "write to stag 0", sends: func(*target) []byte { return write(0, 0, payload(4)) }, want: rdmap.ErrInvalidSTagTagged},
	{name: "write to a region of another connection", sends: func(x *target) []byte { return write(x.foreign, 0, payload(4)) }, want: rdmap.ErrInvalidSTagTagged},
	{name: "write to a deregistered region", sends: func(x *target) []byte { return write(x.dead, 0, payload(4)) }, want: rdmap.ErrInvalidSTagTagged},
	{name: "write without the right", sends: func(x *target) []byte { return write(x.readable, 0, payload(4)) }, want: rdmap.ErrInvalidSTagTagged},
	{name: "write to a local region", sends: func(x *target) []byte { return write(x.local, 0, payload(4)) }, want: rdmap.ErrInvalidSTagTagged},
	{name: "write past the end", sends: func(x *target) []byte { return write(x.ring, 60, payload(5)) }, want: rdmap.ErrBaseBounds},
	{name: "write behind the end", sends: func(x *target) []byte { return write(x.ring, 65, payload(1)) }, want: rdmap.ErrBaseBounds},
	{name: "write far behind the end", sends: func(x *target) []byte { return write(x.ring, 1<<63, payload(1)) }, want: rdmap.ErrBaseBounds},
	{name: "write wraps", sends: func(x *target) []byte { return write(x.ring, 1<<64-2, payload(4)) }, want: rdmap.ErrTOWrap},
	{name: "write past the end in the second segment", sends: func(x *target) []byte {
		return concat(tagged(rdmap.OpWrite, false, x.ring, 0, payload(64)), tagged(rdmap.OpWrite, true, x.ring, 64, payload(1)))
	}, want: rdmap.ErrBaseBounds},
	{name: "write past the end of a placer", sends: func(x *target) []byte { return write(x.placer, 63, payload(2)) }, want: rdmap.ErrBaseBounds},
	{name: "write that the placer refuses", sends: func(x *target) []byte { return write(x.placer, 1, payload(2)) }, want: rdmap.ErrBaseBounds},

	// RDMA Reads of ours
	{name: "read of an unknown stag", sends: func(x *target) []byte {
		return readRequest(1, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(x.ring ^ 1)})
	}, want: rdmap.ErrRemoteInvalidSTag},
	{name: "read of a deregistered region", sends: func(x *target) []byte {
		return readRequest(1, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(x.dead)})
	}, want: rdmap.ErrRemoteInvalidSTag},
	{name: "read of a region of another connection", sends: func(x *target) []byte {
		return readRequest(1, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(x.foreign)})
	}, want: rdmap.ErrRemoteInvalidSTag},
	{name: "read without the right", sends: func(x *target) []byte {
		return readRequest(1, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(x.writable)})
	}, want: rdmap.ErrRemoteAccess},
	{name: "read of a local region", sends: func(x *target) []byte {
		return readRequest(1, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(x.local)})
	}, want: rdmap.ErrRemoteAccess},
	{name: "read of a placer", sends: func(x *target) []byte {
		return readRequest(1, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(x.placer)})
	}, want: rdmap.ErrRemoteAccess},
	{name: "read past the end", sends: func(x *target) []byte {
		return readRequest(1, rdmap.ReadRequest{Size: 5, SrcSTag: uint32(x.ring), SrcTO: 60})
	}, want: rdmap.ErrRemoteBaseBounds},
	{name: "read of 4 GB", sends: func(x *target) []byte {
		return readRequest(1, rdmap.ReadRequest{Size: 1<<32 - 1, SrcSTag: uint32(x.ring)})
	}, want: rdmap.ErrRemoteBaseBounds},
	{name: "read wraps", sends: func(x *target) []byte {
		return readRequest(1, rdmap.ReadRequest{Size: 5, SrcSTag: uint32(x.ring), SrcTO: 1<<64 - 4})
	}, want: rdmap.ErrRemoteTOWrap},
	{name: "read msn ahead", sends: func(x *target) []byte {
		return readRequest(2, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(x.ring)})
	}, want: rdmap.ErrMSNRange},
	{name: "read mo", sends: func(x *target) []byte {
		return patch(readRequest(1, rdmap.ReadRequest{}), func(b []byte) { b[19] = 1 })
	}, want: rdmap.ErrInvalidMO},
	{name: "read request in two segments", sends: func(*target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpReadRequest, qn: 1, more: true}, make([]byte, rdmap.ReadRequestLen))
	}, want: rdmap.ErrMessageTooLong},
	{name: "more reads than the ird", opts: &transport.Options{IRD: 16}, sends: func(x *target) []byte {
		var b []byte
		for i := range 17 {
			b = append(b, readRequest(uint32(i+1), rdmap.ReadRequest{Size: 64, SrcSTag: uint32(x.ring)})...)
		}
		return b
	}, want: rdmap.ErrNoBuffer},
	{name: "read with an ird of none", opts: &transport.Options{IRD: -1}, sends: func(x *target) []byte {
		return concat(rtrWrite(), readRequest(1, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(x.ring)}))
	}, want: rdmap.ErrNoBuffer},
	{name: "read of nothing with an ird of none", opts: &transport.Options{IRD: -1}, sends: func(*target) []byte {
		return concat(rtrWrite(), readRequest(1, rdmap.ReadRequest{}))
	}, want: rdmap.ErrNoBuffer},

	// read responses
	{name: "read response unasked", sends: func(x *target) []byte {
		return tagged(rdmap.OpReadResponse, true, x.local, 0, payload(4))
	}, want: rdmap.ErrInvalidSTagTagged},
	{name: "read response of nothing unasked", sends: func(*target) []byte {
		return tagged(rdmap.OpReadResponse, true, 1, 0, nil)
	}, want: rdmap.ErrInvalidSTagTagged},

	// invalidation
	{name: "invalidate an unknown stag", sends: func(x *target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpSendInvalidate, invalidate: x.ring ^ 1}, payload(4))
	}, want: rdmap.ErrCannotInvalidateUnknown, status: transport.StatusInvalidateFailed},
	{name: "invalidate a deregistered region", sends: func(x *target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpSendSEInvalidate, invalidate: x.dead}, payload(4))
	}, want: rdmap.ErrCannotInvalidateUnknown, status: transport.StatusInvalidateFailed},
	{name: "invalidate a local region", sends: func(x *target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpSendInvalidate, invalidate: x.local}, payload(4))
	}, want: rdmap.ErrCannotInvalidate, status: transport.StatusInvalidateFailed},
	{name: "invalidate a placer", sends: func(x *target) []byte {
		return untagged(untaggedHeader{op: rdmap.OpSendInvalidate, invalidate: x.placer}, payload(4))
	}, want: rdmap.ErrCannotInvalidate, status: transport.StatusInvalidateFailed},
}

func TestFaultsOfThePeer(t *testing.T) {
	for _, tc := range faults {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			x, p := connectTarget(t, tc.opts)
			// What follows the fault is not to be looked at.
			after := bytes.Repeat([]byte{0xee}, 64)
			p.write(concat(tc.sends(x), write(x.ring, 0, after), terminateFPDU(0, 0, 0, 0)))

			wc, err := finish(t, x.q)
			var te *transport.TerminateError
			require.ErrorAs(t, err, &te)
			require.Equal(t, transport.TerminateError{Local: true, Layer: tc.want.Layer, Type: tc.want.Type, Code: tc.want.Code,
				Text: tc.want.Text()}, *te)
			require.ErrorIs(t, err, syscall.ECONNRESET)
			require.Equal(t, err, x.q.Err())
			require.Equal(t, transport.StateTerminate, x.q.State())

			msg := p.terminated()
			require.Equal(t, [3]uint8{tc.want.Layer, tc.want.Type, tc.want.Code}, [3]uint8{msg.Layer, msg.Type, msg.Code})
			require.Equal(t, tc.want.Headers&rdmap.HeaderM != 0, msg.HdrM)
			require.Equal(t, tc.want.Headers&rdmap.HeaderD != 0, msg.HdrD)
			require.Equal(t, tc.want.Headers&rdmap.HeaderR != 0, msg.HdrR)

			require.False(t, bytes.Contains(x.mem, after[:8]))
			require.Len(t, wc, 2)
			failed := 0
			for _, c := range wc {
				require.Equal(t, transport.OpRecv, c.Opcode)
				switch c.Status {
				case transport.StatusSuccess, transport.StatusFlushed:
				default:
					failed++
					require.Equal(t, tc.status, c.Status)
				}
			}
			require.Equal(t, tc.status != transport.StatusSuccess, failed == 1)

			n, err := x.q.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}})
			require.Zero(t, n)
			require.ErrorIs(t, err, syscall.ECONNRESET)
			_, err = x.q.PostRecv([]transport.RecvWR{{}})
			require.ErrorIs(t, err, syscall.ECONNRESET)
			_, err = x.q.RegisterMemory(make([]byte, 1), 0)
			require.ErrorIs(t, err, syscall.ECONNRESET)
			require.NoError(t, x.q.Close())
			require.ErrorIs(t, x.q.Close(), net.ErrClosed)
			require.Equal(t, err, x.q.Err())
		})
	}
}
