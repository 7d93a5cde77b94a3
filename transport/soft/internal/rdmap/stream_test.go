package rdmap_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

// goldenStream returns the known FPDUs with CRC, or those without, and what they hold.
func goldenStream(crc bool) (fpdus [][]byte, segments []rdmap.Segment) {
	for _, g := range wiretest.FPDUs() {
		if g.CRC == crc {
			fpdus = append(fpdus, g.Bytes)
			segments = append(segments, goldenSegments[g.Name])
		}
	}
	return fpdus, segments
}

func requireSplit(t *testing.T, want []rdmap.Segment, crc bool, pieces ...[]byte) {
	t.Helper()
	s := wiretest.Split(crc, pieces...)
	require.NoError(t, s.Err)
	require.Zero(t, s.Pending())
	require.Equal(t, want, s.Segments)
}

// Every known FPDU, followed by every other, cut at every byte.
func TestStreamCutPairs(t *testing.T) {
	for _, crc := range []bool{false, true} {
		fpdus, segments := goldenStream(crc)
		for i := range fpdus {
			for j := range fpdus {
				stream := slices.Concat(fpdus[i], fpdus[j])
				want := []rdmap.Segment{segments[i], segments[j]}
				for cut := range len(stream) + 1 {
					requireSplit(t, want, crc, stream[:cut], stream[cut:])
				}
			}
		}
	}
}

// Every two cuts of a stream of three.
func TestStreamCutTwice(t *testing.T) {
	fpdus, segments := goldenStream(true)
	stream := slices.Concat(fpdus[:3]...)
	for i := range len(stream) + 1 {
		for j := i; j <= len(stream); j++ {
			requireSplit(t, segments[:3], true, stream[:i], stream[i:j], stream[j:])
		}
	}
}

// All ways to hand over a stream in groups of whole FPDUs, and byte by byte.
func TestStreamMerged(t *testing.T) {
	for _, crc := range []bool{false, true} {
		fpdus, segments := goldenStream(crc)
		const most = 10
		for first := 0; first < len(fpdus); first += most {
			part := fpdus[first:min(first+most, len(fpdus))]
			want := segments[first : first+len(part)]
			for mask := range 1 << (len(part) - 1) {
				pieces := [][]byte{slices.Clone(part[0])}
				for i, fpdu := range part[1:] {
					if mask>>i&1 != 0 {
						pieces = append(pieces, nil)
					}
					last := len(pieces) - 1
					pieces[last] = append(pieces[last], fpdu...)
				}
				requireSplit(t, want, crc, pieces...)
			}
		}
		requireSplit(t, segments, crc, slices.Collect(slices.Chunk(slices.Concat(fpdus...), 1))...)
	}
}

// What other implementations sent after their MPA frames is accepted, with the
// CRCs they negotiated, cut at every byte.
func TestStreamRecorded(t *testing.T) {
	opcodes := map[rdmap.Opcode]int{}
	for _, session := range wiretest.Sessions() {
		crc, fpdus := recordedFPDUs(t, session)
		for _, stream := range fpdus {
			whole := wiretest.Split(crc, stream)
			require.NoError(t, whole.Err, session.Name)
			require.Zero(t, whole.Pending(), session.Name)
			require.Equal(t, len(stream) == 0, len(whole.Segments) == 0, session.Name)
			for cut := 1; cut < len(stream); cut++ {
				requireSplit(t, whole.Segments, crc, stream[:cut], stream[cut:])
			}
			requireSplit(t, whole.Segments, crc, slices.Collect(slices.Chunk(stream, 1))...)
			requireInOrder(t, session.Name, whole.Segments)
			for _, s := range whole.Segments {
				opcodes[s.Op]++
			}
		}
	}
	for _, op := range []rdmap.Opcode{rdmap.OpWrite, rdmap.OpReadRequest, rdmap.OpReadResponse, rdmap.OpSend} {
		require.NotZero(t, opcodes[op], "no %v recorded", op)
	}
}

// recordedFPDUs strips the MPA frames of a session and returns what follows them.
func recordedFPDUs(t *testing.T, s wiretest.Session) (crc bool, fpdus [2][]byte) {
	t.Helper()
	for i, stream := range [][]byte{s.Initiator, s.Responder} {
		total, err := mpa.ParseHeader(stream, i == 1)
		require.NoError(t, err, s.Name)
		frame, err := mpa.Parse(stream[:total], i == 1)
		require.NoError(t, err, s.Name)
		crc = crc || frame.Flags&mpa.FlagCRC != 0
		fpdus[i] = stream[total:]
	}
	return crc, fpdus
}

// requireInOrder checks that untagged messages count up from 1 on their queues and
// that Read Requests decode: header fields would not if they were misread.
func requireInOrder(t *testing.T, name string, segments []rdmap.Segment) {
	t.Helper()
	next := [3]uint32{1, 1, 1}
	for _, s := range segments {
		if s.Tagged {
			continue
		}
		require.Equal(t, next[s.U.QN], s.U.MSN, name)
		require.Zero(t, s.U.MO, name)
		next[s.U.QN]++
		if s.Op == rdmap.OpReadRequest {
			request, err := rdmap.ParseReadRequest(s.Payload)
			require.NoError(t, err, name)
			require.NotZero(t, request.Size, name)
			require.LessOrEqual(t, request.Size, uint32(4096), name)
		}
	}
}

// Read Responses of a recorded session answer its Read Requests.
func TestRecordedReads(t *testing.T) {
	for _, session := range wiretest.Sessions() {
		crc, fpdus := recordedFPDUs(t, session)
		initiator, responder := wiretest.Split(crc, fpdus[0]).Segments, wiretest.Split(crc, fpdus[1]).Segments
		for _, dir := range [][2][]rdmap.Segment{{initiator, responder}, {responder, initiator}} {
			var requests []rdmap.ReadRequest
			for _, s := range dir[0] {
				if s.Op == rdmap.OpReadRequest {
					request, err := rdmap.ParseReadRequest(s.Payload)
					require.NoError(t, err)
					requests = append(requests, request)
				}
			}
			for _, s := range dir[1] {
				if s.Op != rdmap.OpReadResponse {
					continue
				}
				require.NotEmpty(t, requests, session.Name)
				require.Equal(t, requests[0].SinkSTag, s.T.STag, session.Name)
				require.Equal(t, requests[0].SinkTO, s.T.TO, session.Name)
				require.Len(t, s.Payload, int(requests[0].Size), session.Name)
				requests = requests[1:]
			}
			require.Empty(t, requests, session.Name)
		}
	}
}
