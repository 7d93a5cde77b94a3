package soft_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// Whichever bit of an FPDU is wrong, nothing of it is delivered.
func TestEveryBitFlipped(t *testing.T) {
	t.Parallel()
	for name, fpdu := range map[string]func(x *target) []byte{
		"send":         func(*target) []byte { return send(1, []byte("ping")) },
		"write":        func(x *target) []byte { return write(x.ring, 8, []byte("hello")) },
		"read request": func(x *target) []byte { return readRequest(1, rdmap.ReadRequest{Size: 4, SrcSTag: uint32(x.ring)}) },
	} {
		t.Run(name, func(t *testing.T) {
			bits := 1
			for bit := 0; bit < bits; bit++ {
				x, p := connectTarget(t, nil)
				b := fpdu(x)
				bits = 8 * len(b)
				b[bit/8] ^= 0x80 >> (bit % 8)
				p.write(b)
				require.NoError(t, p.c.CloseWrite())
				wc, err := finish(t, x.q)
				if err == io.ErrUnexpectedEOF {
					require.Less(t, bit, 16, "only a wrong length can be waited for")
				} else {
					require.ErrorAs(t, err, new(*transport.TerminateError), "bit %d", bit)
				}
				for _, c := range wc {
					require.Equal(t, transport.StatusFlushed, c.Status)
				}
				require.Equal(t, make([]byte, 64), x.mem)
				require.Equal(t, make([]byte, 32), x.recv)
				require.NoError(t, x.q.Abort())
				require.NoError(t, p.c.Close())
			}
		})
	}
}

// Segments of every kind in every length about that of their header.
func TestEveryLength(t *testing.T) {
	t.Parallel()
	lengths := []int{0, 1, 2, 3, 13, 14, 15, 17, 18, 19, 21, 22, 23, 45, 46, 47, 51}
	for _, model := range []byte{0x41, 0xc1} {
		for op := range 16 {
			least := ddp.UntaggedLen
			if model == 0xc1 {
				least = ddp.TaggedLen
			} else if op == int(rdmap.OpTerminate) {
				least += rdmap.TerminateLen
			} else if op == int(rdmap.OpReadRequest) {
				least += rdmap.ReadRequestLen
			}
			for _, n := range lengths {
				_, p, q := lengthTarget(t)
				ulpdu := make([]byte, n)
				copy(ulpdu, []byte{model, rdmap.Control(rdmap.Opcode(op))})
				p.write(seal(ulpdu))
				require.NoError(t, p.c.CloseWrite())
				_, err := finish(t, q)
				if n < max(least, 2) {
					require.ErrorContains(t, err, "layer 2, type 0, code 0x03", "%#x %d %d", model, op, n)
				}
				require.NoError(t, q.Abort())
				require.NoError(t, p.c.Close())
			}
		}
	}
}

func lengthTarget(t *testing.T) (*target, *rawPeer, transport.QueuePair) {
	x, p := &target{}, (*rawPeer)(nil)
	_, p, _ = role{prepare: x.prepare(t)}.responder(t)
	return x, p, x.q
}

func TestSegments(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	for _, n := range []int{-1, 0, 1023, mpa.MaxFPDULen + 1} {
		require.Error(t, q.SetMaxSegment(n))
	}
	data := random(200_000)
	var msn uint32
	for _, most := range []int{0, 1024, 1027, 4096, 16 << 10, 32 << 10, mpa.MaxFPDULen - 1, mpa.MaxFPDULen} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			if most > 0 {
				require.NoError(t, q.SetMaxSegment(most))
			} else {
				most = q.Attributes().MaxSegment
			}
			require.LessOrEqual(t, q.Attributes().MaxSegment, most)
			require.Greater(t, q.Attributes().MaxSegment, most-8)
			require.Equal(t, mpa.MaxFPDULen, q.Attributes().MaxRecvSeg)
			region := register(t, q, data, 0)
			for _, size := range []int{0, 1, 1000, 1001, 4095, 4097, 8192, 65535, 65536, 131072, 200_000} {
				post(t, q, transport.SendWR{Opcode: transport.OpWrite, Data: data[:size], Region: region, RemoteSTag: 9, RemoteOffset: 1<<64 - 5},
					transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: data[:size]})
				msn++
				var written, sent []byte
				for over := false; !over; {
					s := p.next()
					require.LessOrEqual(t, mpa.FPDULen(len(s.Payload)+ddp.UntaggedLen), most+4)
					switch {
					case s.Tagged && len(s.Payload) == 0 && s.T.STag != 9: // before the peer was heard
					case s.Tagged:
						require.Empty(t, sent, "messages are not mixed")
						require.EqualValues(t, 9, s.T.STag)
						want := uint64(len(written))
						want -= 5
						require.Equal(t, want, s.T.TO)
						written = append(written, s.Payload...)
						require.Equal(t, len(written) == size, s.T.Last)
					default:
						require.Equal(t, msn, s.U.MSN)
						require.EqualValues(t, len(sent), s.U.MO)
						sent = append(sent, s.Payload...)
						require.Equal(t, len(sent) == size, s.U.Last)
						over = s.U.Last
					}
				}
				require.True(t, bytes.Equal(data[:size], written), size)
				require.True(t, bytes.Equal(data[:size], sent), size)
			}
			require.NoError(t, q.Drain(soon()))
			require.NoError(t, region.Deregister())
		})
	}
}

// A peer that has everything but never ends the stream is not waited for any longer.
func TestCloseWithAPeerThatStays(t *testing.T) {
	t.Parallel()
	q, p, _ := role{}.initiator(t)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("bye")})
	require.NoError(t, q.Close())
	require.Equal(t, transport.StateClosing, q.State())
	require.Equal(t, [][]byte{[]byte("bye")}, p.sends())
	for end := soon(); q.State() != transport.StateError; time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(end))
	}
}
