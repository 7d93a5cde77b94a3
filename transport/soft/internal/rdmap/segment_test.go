package rdmap_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

func tagged(op rdmap.Opcode, stag uint32, to uint64, payload string) rdmap.Segment {
	return rdmap.Segment{
		Op: op, Tagged: true,
		T:       ddp.Tagged{Last: true, ULP: rdmap.Control(op), STag: stag, TO: to},
		Payload: wiretest.Hex(payload),
	}
}

func untagged(op rdmap.Opcode, word, qn, msn uint32, payload string) rdmap.Segment {
	return rdmap.Segment{
		Op:      op,
		U:       ddp.Untagged{Last: true, ULP: rdmap.Control(op), ULPWord: word, QN: qn, MSN: msn},
		Payload: wiretest.Hex(payload),
	}
}

var (
	rsocketHello = tagged(rdmap.OpWrite, 0x1700, 0x7e0000200000, "68656c6c6f")
	rsocketData  = untagged(rdmap.OpSend, 0, 0, 1, "05000000")
	rsocketSGE   = tagged(rdmap.OpWrite, 0x1300, 0x560000001010, "00002100007e0000 00170000 00000100")
	rsocketSGL   = untagged(rdmap.OpSend, 0, 0, 1, "80010080")
	keepalive    = tagged(rdmap.OpWrite, 0, 0, "")
)

const (
	readRequest = "0000a100 0000000000000020 00001000 12345600 0000000000001000"
	readRTR     = "00000000 0000000000000000 00000000 00000001 0000000000000000"
)

var goldenSegments = map[string]rdmap.Segment{
	"write hello":        tagged(rdmap.OpWrite, 0x12345600, 0x1000, "68656c6c6f"),
	"send ping":          untagged(rdmap.OpSend, 0, 0, 1, "70696e67"),
	"send se invalidate": untagged(rdmap.OpSendSEInvalidate, 0x12345600, 0, 2, "6f6b"),
	"read request":       untagged(rdmap.OpReadRequest, 0, 1, 1, readRequest),
	"read response":      tagged(rdmap.OpReadResponse, 0xa100, 0x20, "64617461"),
	"rtr write":          tagged(rdmap.OpWrite, 1, 0, ""),
	"rtr read":           untagged(rdmap.OpReadRequest, 0, 1, 1, readRTR),
	"rtr read response":  tagged(rdmap.OpReadResponse, 0, 0, ""),
	"terminate base or bounds": untagged(rdmap.OpTerminate, 0, 2, 1,
		"11 01 c0 00 0013 c140 12345600 0000000000001000"),
	"terminate crc": untagged(rdmap.OpTerminate, 0, 2, 1, "20020000"),
	"terminate access rights": untagged(rdmap.OpTerminate, 0, 2, 1,
		"01 02 e0 00 002e 4141 00000000 00000001 00000001 00000000"+readRequest),
	"rsocket write hello":         rsocketHello,
	"rsocket write hello, no CRC": rsocketHello,
	"rsocket send data":           rsocketData,
	"rsocket send data, no CRC":   rsocketData,
	"rsocket write sge":           rsocketSGE,
	"rsocket write sge, no CRC":   rsocketSGE,
	"rsocket send sgl":            rsocketSGL,
	"rsocket send sgl, no CRC":    rsocketSGL,
	"rsocket keepalive":           keepalive,
	"rsocket keepalive, no CRC":   keepalive,
}

func TestValidateGolden(t *testing.T) {
	for _, g := range wiretest.FPDUs() {
		t.Run(g.Name, func(t *testing.T) {
			want, ok := goldenSegments[g.Name]
			require.True(t, ok)
			ulpdu, err := mpa.CheckFPDU(g.Bytes, g.CRC)
			require.NoError(t, err)
			got, err := rdmap.Validate(ulpdu)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.True(t, got.Last())

			var encoded []byte
			if want.Tagged {
				encoded = want.T.Append(nil)
			} else {
				encoded = want.U.Append(nil)
			}
			require.Equal(t, ulpdu, append(encoded, want.Payload...))
		})
	}
}

// Every length from nothing to three bytes more than the header, for every opcode
// in either DDP model, with everything else as it should be.
func TestValidateLengths(t *testing.T) {
	for op := range rdmap.Opcode(16) {
		for _, isTagged := range []bool{false, true} {
			ulpdu := (&ddp.Untagged{Last: true, ULP: rdmap.Control(op), QN: op.Queue(), MSN: 1}).Append(nil)
			need := ddp.UntaggedLen
			if isTagged {
				ulpdu = (&ddp.Tagged{Last: true, ULP: rdmap.Control(op)}).Append(nil)
				need = ddp.TaggedLen
			} else if op == rdmap.OpReadRequest {
				need += rdmap.ReadRequestLen
			} else if op == rdmap.OpTerminate {
				need += rdmap.TerminateLen
			}
			ulpdu = append(ulpdu, make([]byte, 64)...)
			opcodeFits := op == rdmap.OpWrite || op == rdmap.OpReadResponse
			if !isTagged {
				opcodeFits = !opcodeFits && op <= rdmap.OpTerminate
			}
			for n := range need + 4 {
				got, err := rdmap.Validate(ulpdu[:n:n])
				switch {
				case n < need, n > need && !isTagged && op == rdmap.OpReadRequest:
					require.Same(t, rdmap.ErrMPALength, err, "%v, tagged %v, %d bytes", op, isTagged, n)
					require.Zero(t, got)
				case !opcodeFits:
					require.Same(t, rdmap.ErrUnexpectedOpcode, err, "%v, tagged %v, %d bytes", op, isTagged, n)
					require.Zero(t, got)
				default:
					require.NoError(t, err, "%v, tagged %v, %d bytes", op, isTagged, n)
					require.Equal(t, op, got.Op)
					require.Equal(t, isTagged, got.Tagged)
					header := ddp.UntaggedLen
					if isTagged {
						header = ddp.TaggedLen
					}
					require.Len(t, got.Payload, n-header)
				}
			}
		}
	}
}

// Both control bytes in all their values: the first check that fails decides.
func TestValidateControlBytes(t *testing.T) {
	const length = ddp.UntaggedLen + rdmap.ReadRequestLen // enough for every header, right for a Read Request
	for c := range 1 << 16 {
		ulpdu := make([]byte, length)
		ulpdu[0], ulpdu[1] = byte(c>>8), byte(c)
		isTagged, last, dv := ulpdu[0]&0x80 != 0, ulpdu[0]&0x40 != 0, ulpdu[0]&3
		rv, op := ulpdu[1]>>6, ulpdu[1]&15
		ulpdu[9] = [16]byte{1: 1, 7: 2}[op] * byte(1-ulpdu[0]>>7)

		var want *rdmap.Error
		switch {
		case dv != 1 && isTagged:
			want = rdmap.ErrDDPVersionTagged
		case dv != 1:
			want = rdmap.ErrDDPVersionUntagged
		case rv != 1:
			want = rdmap.ErrVersion
		case op > 7, isTagged != (op == 0 || op == 2):
			want = rdmap.ErrUnexpectedOpcode
		case op == 1 && !last:
			want = rdmap.ErrMessageTooLong
		}
		got, err := rdmap.Validate(ulpdu)
		if want != nil {
			if err != want {
				t.Fatalf("control %#04x: got %v, want %v", c, err, want)
			}
			continue
		}
		if err != nil || got.Op != rdmap.Opcode(op) || got.Tagged != isTagged || got.Last() != last {
			t.Fatalf("control %#04x: %+v, %v", c, got, err)
		}
	}
}

func TestValidateQueueNumber(t *testing.T) {
	queues := map[rdmap.Opcode]uint32{
		rdmap.OpReadRequest: 1, rdmap.OpTerminate: 2,
		rdmap.OpSend: 0, rdmap.OpSendInvalidate: 0, rdmap.OpSendSE: 0, rdmap.OpSendSEInvalidate: 0,
	}
	for op, queue := range queues {
		for _, qn := range []uint32{0, 1, 2, 3, 4, 0x80000000, 0xffffffff} {
			header := ddp.Untagged{Last: true, ULP: rdmap.Control(op), QN: qn, MSN: 1}
			_, err := rdmap.Validate(append(header.Append(nil), make([]byte, rdmap.ReadRequestLen)...))
			if qn == queue {
				require.NoError(t, err, "%v on queue %d", op, qn)
			} else {
				require.Same(t, rdmap.ErrInvalidQN, err, "%v on queue %d", op, qn)
			}
		}
	}
}

// The order of the checks: a segment that is wrong in every respect, put right step by step.
func TestValidateOrder(t *testing.T) {
	header := ddp.Untagged{ULP: 0x01, QN: 7}
	ulpdu := append(header.Append(nil), make([]byte, rdmap.ReadRequestLen)...)
	ulpdu[0] = 0x00

	_, err := rdmap.Validate(ulpdu[:len(ulpdu)-1])
	require.Same(t, rdmap.ErrMPALength, err)
	_, err = rdmap.Validate(ulpdu)
	require.Same(t, rdmap.ErrDDPVersionUntagged, err)
	ulpdu[0] = 0x01
	_, err = rdmap.Validate(ulpdu)
	require.Same(t, rdmap.ErrVersion, err)
	ulpdu[1] = 0x40
	_, err = rdmap.Validate(ulpdu)
	require.Same(t, rdmap.ErrUnexpectedOpcode, err)
	ulpdu[1] = 0x41
	_, err = rdmap.Validate(ulpdu)
	require.Same(t, rdmap.ErrInvalidQN, err)
	ulpdu[9] = 1
	_, err = rdmap.Validate(ulpdu)
	require.Same(t, rdmap.ErrMessageTooLong, err)
	ulpdu[0] = 0x41
	_, err = rdmap.Validate(ulpdu)
	require.NoError(t, err)
}
