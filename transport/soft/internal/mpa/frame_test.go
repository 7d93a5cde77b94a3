package mpa_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

const (
	clientData = `01020180 00000000 00005600 00001000 00001300 00000002
		00007f00 00100000 00001400 00010000`
	serverData = `01020180 00000000 00005500 00002000 00001600 00000002
		00007e00 00200000 00001700 00010000`
)

var goldenFrames = []struct {
	name  string
	hex   string
	frame mpa.Frame
}{
	{
		"revision 2 request", "4d504120494420526571204672616d65 50 02 0008 8010 c010 70696e67",
		mpa.Frame{
			Flags: mpa.FlagCRC | mpa.FlagEnhanced, Revision: mpa.Rev2,
			Enhanced:    mpa.Enhanced{IRD: 16, ORD: 16, PeerToPeer: true, RTRWrite: true, RTRRead: true},
			PrivateData: []byte("ping"),
		},
	},
	{
		"revision 2 reply", "4d504120494420526570204672616d65 50 02 0008 8010 4010 706f6e67",
		mpa.Frame{
			Reply: true, Flags: mpa.FlagCRC | mpa.FlagEnhanced, Revision: mpa.Rev2,
			Enhanced:    mpa.Enhanced{IRD: 16, ORD: 16, PeerToPeer: true, RTRRead: true},
			PrivateData: []byte("pong"),
		},
	},
	{
		"revision 1 request", "4d504120494420526571204672616d65 40 01 0000",
		mpa.Frame{Flags: mpa.FlagCRC, Revision: mpa.Rev1, PrivateData: []byte{}},
	},
	{
		"revision 2 reject", "4d504120494420526570204672616d65 70 02 0004 8010 4010",
		mpa.Frame{
			Reply: true, Flags: mpa.FlagCRC | mpa.FlagReject | mpa.FlagEnhanced, Revision: mpa.Rev2,
			Enhanced:    mpa.Enhanced{IRD: 16, ORD: 16, PeerToPeer: true, RTRRead: true},
			PrivateData: []byte{},
		},
	},
	{
		"rsocket request", "4d504120 49442052 65712046 72616d65 1002 002c 0000 0001" + clientData,
		mpa.Frame{
			Flags: mpa.FlagEnhanced, Revision: mpa.Rev2,
			Enhanced: mpa.Enhanced{ORD: 1}, PrivateData: wiretest.Hex(clientData),
		},
	},
	{
		"rsocket reply", "4d504120 49442052 65702046 72616d65 1002 002c 0001 0000" + serverData,
		mpa.Frame{
			Reply: true, Flags: mpa.FlagEnhanced, Revision: mpa.Rev2,
			Enhanced: mpa.Enhanced{IRD: 1}, PrivateData: wiretest.Hex(serverData),
		},
	},
	{
		"revision 1 request with markers", "4d504120494420526571204672616d65 80 01 0002 abcd",
		mpa.Frame{Flags: mpa.FlagMarkers, Revision: mpa.Rev1, PrivateData: []byte{0xab, 0xcd}},
	},
	{
		"every enhanced bit", "4d504120494420526571204672616d65 d0 02 0004 ffff ffff",
		mpa.Frame{
			Flags: mpa.FlagMarkers | mpa.FlagCRC | mpa.FlagEnhanced, Revision: mpa.Rev2,
			Enhanced: mpa.Enhanced{
				IRD: mpa.NoDepth, ORD: mpa.NoDepth, PeerToPeer: true, RTRSend: true, RTRWrite: true, RTRRead: true,
			},
			PrivateData: []byte{},
		},
	},
	{
		"zero-length Send RTR alone", "4d504120494420526570204672616d65 10 02 0004 4000 0000",
		mpa.Frame{
			Reply: true, Flags: mpa.FlagEnhanced, Revision: mpa.Rev2,
			Enhanced: mpa.Enhanced{RTRSend: true}, PrivateData: []byte{},
		},
	},
}

func TestFrameGolden(t *testing.T) {
	for _, tt := range goldenFrames {
		t.Run(tt.name, func(t *testing.T) {
			wire := wiretest.Hex(tt.hex)

			got, err := mpa.Parse(wire, tt.frame.Reply)
			require.NoError(t, err)
			require.Equal(t, tt.frame, got)

			prefix := []byte("kept")
			encoded, err := tt.frame.Append(prefix)
			require.NoError(t, err)
			require.Equal(t, append(prefix, wire...), encoded)
		})
	}
}

// The frames of recorded connections come back as the same bytes, and the same
// frame is found however the stream is cut.
func TestFrameRecorded(t *testing.T) {
	for _, s := range wiretest.Sessions() {
		for _, reply := range []bool{false, true} {
			stream := s.Initiator
			if reply {
				stream = s.Responder
			}
			total, err := mpa.ParseHeader(stream, reply)
			require.NoError(t, err, s.Name)
			frame, err := mpa.Parse(stream[:total], reply)
			require.NoError(t, err, s.Name)
			encoded, err := frame.Append(nil)
			require.NoError(t, err, s.Name)
			require.Equal(t, stream[:total], encoded, s.Name)
			requireCutAnywhere(t, stream, reply, total)
		}
	}
}

func TestFrameCutAnywhere(t *testing.T) {
	for _, tt := range goldenFrames {
		wire := wiretest.Hex(tt.hex)
		requireCutAnywhere(t, append(bytes.Clone(wire), wire...), tt.frame.Reply, len(wire))
	}
}

// requireCutAnywhere hands over ever more of the stream, which begins with a frame of
// total bytes.
func requireCutAnywhere(t *testing.T, stream []byte, reply bool, total int) {
	t.Helper()
	for n := range len(stream) + 1 {
		require.Equal(t, !reply || n < len("MPA ID Req"), mpa.IsRequestPrefix(stream[:n]), n)
		got, err := mpa.ParseHeader(stream[:n], reply)
		_, parseErr := mpa.Parse(stream[:n], reply)
		if n < mpa.FrameHeaderLen {
			require.ErrorIs(t, err, mpa.ErrShort, n)
			require.ErrorIs(t, parseErr, mpa.ErrShort, n)
			continue
		}
		require.NoError(t, err, n)
		require.Equal(t, total, got, n)
		switch {
		case n < total:
			require.ErrorIs(t, parseErr, mpa.ErrShort, n)
		case n > total:
			require.ErrorIs(t, parseErr, mpa.ErrTrailing, n)
		default:
			require.NoError(t, parseErr, n)
		}
	}
}

func TestParseIgnores(t *testing.T) {
	const req, rep = "4d504120494420526571204672616d65", "4d504120494420526570204672616d65"
	tests := []struct {
		name  string
		hex   string
		reply bool
		want  mpa.Frame
	}{
		{"reserved flags", req + "4f 01 0000", false, mpa.Frame{Flags: mpa.FlagCRC, Revision: mpa.Rev1, PrivateData: []byte{}}},
		{"reject in a request", req + "20 02 0000", false, mpa.Frame{Revision: mpa.Rev2, PrivateData: []byte{}}},
		{"enhanced flag in revision 1", req + "50 01 0002 8001", false, mpa.Frame{
			Flags: mpa.FlagCRC, Revision: mpa.Rev1, PrivateData: []byte{0x80, 0x01},
		}},
		{"enhanced flag in a revision 1 reply", rep + "30 01 0005 8001c00107", true, mpa.Frame{
			Reply: true, Flags: mpa.FlagReject, Revision: mpa.Rev1, PrivateData: []byte{0x80, 0x01, 0xc0, 0x01, 0x07},
		}},
		{"words without the enhanced flag", req + "00 02 0004 8001c001", false, mpa.Frame{
			Revision: mpa.Rev2, PrivateData: []byte{0x80, 0x01, 0xc0, 0x01},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := mpa.Parse(wiretest.Hex(tt.hex), tt.reply)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			_, err = got.Append(nil)
			require.NoError(t, err, "what was parsed must be fit to be sent")
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const req, rep = "4d504120494420526571204672616d65", "4d504120494420526570204672616d65"
	tests := []struct {
		name  string
		hex   string
		reply bool
		want  error
		total int
	}{
		{"empty", "", false, mpa.ErrShort, 0},
		{"reply for request", rep + "40 01 0000", false, mpa.ErrKey, 0},
		{"request for reply", req + "40 01 0000", true, mpa.ErrKey, 0},
		{"key with last byte wrong", req[:30] + "66 40 01 0000", false, mpa.ErrKey, 0},
		{"revision 0", req + "40 00 0000", false, mpa.ErrRevision, 0},
		{"revision 3", req + "40 03 0000", false, mpa.ErrRevision, 0},
		{"revision 255", rep + "40 ff 0000", true, mpa.ErrRevision, 0},
		{"private data too long", req + "40 01 0201" + strings.Repeat("00", 513), false, mpa.ErrPrivateData, 0},
		{"private data of 65535", req + "40 02 ffff", false, mpa.ErrPrivateData, 0},
		{"enhanced with nothing", rep + "10 02 0000", true, mpa.ErrEnhanced, 20},
		{"enhanced with three bytes", req + "50 02 0003 800180", false, mpa.ErrEnhanced, 23},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wire := wiretest.Hex(tt.hex)
			total, err := mpa.ParseHeader(wire, tt.reply)
			require.ErrorIs(t, err, tt.want)
			require.Equal(t, tt.total, total)
			frame, err := mpa.Parse(wire, tt.reply)
			require.ErrorIs(t, err, tt.want)
			require.Zero(t, frame)

			var typed *mpa.Error
			require.ErrorAs(t, err, &typed)
			require.Equal(t, mpa.CodeFrame, typed.Code)
		})
	}
}

func TestPrivateDataOfMaximumLength(t *testing.T) {
	for _, f := range []mpa.Frame{
		{Revision: mpa.Rev1, PrivateData: bytes.Repeat([]byte{7}, mpa.MaxPrivateData)},
		{Revision: mpa.Rev2, Flags: mpa.FlagEnhanced, PrivateData: bytes.Repeat([]byte{7}, mpa.MaxPrivateData-mpa.EnhancedLen)},
	} {
		wire, err := f.Append(nil)
		require.NoError(t, err)
		require.Len(t, wire, mpa.MaxFrameLen)
		got, err := mpa.Parse(wire, false)
		require.NoError(t, err)
		require.Equal(t, f, got)
	}
}

func TestAppendRefuses(t *testing.T) {
	tests := []struct {
		name  string
		frame mpa.Frame
		want  error
	}{
		{"zero value", mpa.Frame{}, mpa.ErrRevision},
		{"revision 3", mpa.Frame{Revision: 3}, mpa.ErrRevision},
		{"reserved flag", mpa.Frame{Revision: mpa.Rev1, Flags: 0x08}, mpa.ErrFlags},
		{"reject in a request", mpa.Frame{Revision: mpa.Rev1, Flags: mpa.FlagReject}, mpa.ErrFlags},
		{"enhanced in revision 1", mpa.Frame{Revision: mpa.Rev1, Flags: mpa.FlagEnhanced}, mpa.ErrEnhanced},
		{"depths without the flag", mpa.Frame{Revision: mpa.Rev2, Enhanced: mpa.Enhanced{IRD: 1}}, mpa.ErrEnhanced},
		{"peer-to-peer without the flag", mpa.Frame{Revision: mpa.Rev2, Enhanced: mpa.Enhanced{PeerToPeer: true}}, mpa.ErrEnhanced},
		{"IRD", mpa.Frame{Revision: mpa.Rev2, Flags: mpa.FlagEnhanced, Enhanced: mpa.Enhanced{IRD: 0x4000}}, mpa.ErrDepth},
		{"ORD", mpa.Frame{Revision: mpa.Rev2, Flags: mpa.FlagEnhanced, Enhanced: mpa.Enhanced{ORD: 0x4000}}, mpa.ErrDepth},
		{"private data", mpa.Frame{Revision: mpa.Rev1, PrivateData: make([]byte, 513)}, mpa.ErrPrivateData},
		{"private data and words", mpa.Frame{
			Revision: mpa.Rev2, Flags: mpa.FlagEnhanced, PrivateData: make([]byte, 509),
		}, mpa.ErrPrivateData},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.frame.Append([]byte("kept"))
			require.ErrorIs(t, err, tt.want)
			require.Equal(t, "kept", string(got))
		})
	}
}

func TestIsPrefix(t *testing.T) {
	for key, isPrefix := range map[string]func([]byte) bool{
		"MPA ID Req Frame": mpa.IsRequestPrefix,
		"MPA ID Rep Frame": mpa.IsReplyPrefix,
	} {
		for i := range len(key) {
			wrong := []byte(key)
			wrong[i] ^= 0x20
			require.True(t, isPrefix(wrong[:i]))
			require.False(t, isPrefix(wrong[:i+1]))
			require.False(t, isPrefix(wrong))
		}
		require.True(t, isPrefix([]byte(key+"anything")))
		require.False(t, isPrefix([]byte("GET / HTTP/1.1\r\n")))
		require.False(t, isPrefix([]byte{0x16, 0x03, 0x01}))
	}
	require.False(t, mpa.IsReplyPrefix([]byte("MPA ID Req Frame")))
	require.False(t, mpa.IsRequestPrefix([]byte("MPA ID Rep Frame")))
}

func TestErrorText(t *testing.T) {
	require.Equal(t, "mpa: CRC mismatch; close the connection", mpa.ErrCRC.Error())
	require.Equal(t, mpa.CodeCRC, mpa.ErrCRC.Code)
	require.Equal(t, mpa.CodeLength, mpa.ErrLength.Code)
}
