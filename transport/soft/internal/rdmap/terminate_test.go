package rdmap_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

const (
	writeULPDU = "c1 40 12345600 0000000000001000 68656c6c6f"
	writeDDP   = "c1 40 12345600 0000000000001000"
	readDDP    = "41 41 00000000 00000001 00000001 00000000"
	readULPDU  = readDDP + readRequest
)

// What the endpoint would send about an offending segment.
func TestErrorTerminate(t *testing.T) {
	tests := []struct {
		name  string
		err   *rdmap.Error
		ulpdu string
		want  string
	}{
		{"tagged", rdmap.ErrBaseBounds, writeULPDU, "11 01 c0 00 0013" + writeDDP},
		{"CRC", rdmap.ErrMPACRC, writeULPDU, "20 02 00 00"},
		{"Read Request", rdmap.ErrRemoteAccess, readULPDU, "01 02 e0 00 002e" + readULPDU},
		{"untagged", rdmap.ErrNoBuffer, readULPDU, "12 02 c0 00 002e" + readDDP},
		{"catastrophic", rdmap.ErrReadCatastrophic, readULPDU, "02 07 00 00"},
		{"segment without payload", rdmap.ErrTOWrap, writeDDP, "11 03 c0 00 000e" + writeDDP},
		{"segment cut before the end of its header", rdmap.ErrTOWrap, writeDDP[:len(writeDDP)-2], "11 03 00 00"},
		{"no segment", rdmap.ErrBaseBounds, "", "11 01 00 00"},
		{"segment shorter than its header", rdmap.ErrBaseBounds, "c140 12345600", "11 01 00 00"},
		{"Read Request cut short", rdmap.ErrRemoteAccess, readDDP + "0000a100", "01 02 c0 00 0016" + readDDP},
		{
			"long Send", rdmap.ErrCannotInvalidate, "41 44 00001234 00000000 00000001 00000000" + readRequest,
			"01 09 c0 00 002e 41 44 00001234 00000000 00000001 00000000",
		},
		{
			"not a Read Request", rdmap.ErrRemoteAccess, "41 43 00000000 00000000 00000001 00000000" + readRequest,
			"01 02 c0 00 002e 41 43 00000000 00000000 00000001 00000000",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			term := tt.err.Terminate(wiretest.Hex(tt.ulpdu))
			got := term.Append([]byte("kept"))
			require.Equal(t, append([]byte("kept"), wiretest.Hex(tt.want)...), got)
			require.LessOrEqual(t, len(got)-len("kept"), rdmap.MaxTerminateLen)

			parsed, err := rdmap.ParseTerminate(got[len("kept"):])
			require.NoError(t, err)
			require.Equal(t, term.DDP, parsed.DDP)
			require.Equal(t, term.RDMAP, parsed.RDMAP)
			require.Equal(t, tt.err.Error(), parsed.String())
		})
	}
}

func TestParseTerminate(t *testing.T) {
	term, err := rdmap.ParseTerminate(wiretest.Hex("01 02 e0 00 002e" + readULPDU + "ffff"))
	require.NoError(t, err)
	require.Equal(t, "rdmap: access rights violation (0/1/0x02)", term.String())
	require.True(t, term.HdrM && term.HdrD && term.HdrR)
	require.EqualValues(t, 46, term.SegLen)
	header, _, err := ddp.ParseUntagged(term.DDP)
	require.NoError(t, err)
	require.Equal(t, ddp.Untagged{Last: true, ULP: 0x41, QN: 1, MSN: 1}, header)
	request, err := rdmap.ParseReadRequest(term.RDMAP)
	require.NoError(t, err)
	require.Equal(t, rdmap.ReadRequest{SinkSTag: 0xa100, SinkTO: 0x20, Size: 4096, SrcSTag: 0x12345600, SrcTO: 0x1000}, request)
}

// Cut at every byte, whatever is whole is there and the rest is empty.
func TestParseTerminateCut(t *testing.T) {
	const seg, hdr = rdmap.TerminateLen + 2, rdmap.TerminateLen + 2 + ddp.UntaggedLen
	whole := wiretest.Hex("01 02 e0 00 002e" + readULPDU)
	for n := range len(whole) + 1 {
		term, err := rdmap.ParseTerminate(whole[:n:n])
		if n < rdmap.TerminateLen {
			require.ErrorIs(t, err, rdmap.ErrMPALength)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []uint8{0, 1, 2}, []uint8{term.Layer, term.Type, term.Code})
		require.True(t, term.HdrM && term.HdrD && term.HdrR)
		require.Equal(t, n >= seg, term.SegLen == 46, n)
		require.Equal(t, n >= hdr, len(term.DDP) == ddp.UntaggedLen, n)
		require.Equal(t, n >= hdr+rdmap.ReadRequestLen, len(term.RDMAP) == rdmap.ReadRequestLen, n)
	}
}

func TestTerminateSwapped(t *testing.T) {
	tests := []struct {
		name, hex, plain, swapped string
	}{
		{"CRC", "02 02 00 00", "rdmap: unknown error (0/2/0x02)", "mpa: CRC mismatch (2/0/0x02)"},
		{"access rights", "10 02 07 00 002e" + readULPDU, "ddp: unknown error (1/0/0x02)", "rdmap: access rights violation (0/1/0x02)"},
		{"base or bounds", "11 01 03 00 0013" + writeDDP, "ddp: base or bounds violation (1/1/0x01)", "ddp: base or bounds violation (1/1/0x01)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			term, err := rdmap.ParseTerminate(wiretest.Hex(tt.hex))
			require.NoError(t, err)
			require.Equal(t, tt.plain, term.String())
			require.False(t, term.HdrM || term.HdrD || term.HdrR)
			swapped := term.Swapped()
			require.Equal(t, tt.swapped, swapped.String())
		})
	}

	term, err := rdmap.ParseTerminate(wiretest.Hex("10 02 07 00 002e" + readULPDU))
	require.NoError(t, err)
	swapped := term.Swapped()
	require.True(t, swapped.HdrM && swapped.HdrD && swapped.HdrR)
	require.EqualValues(t, 46, swapped.SegLen)
	require.Equal(t, wiretest.Hex(readDDP), swapped.DDP)
	require.Equal(t, wiretest.Hex(readRequest), swapped.RDMAP)

	built := rdmap.ErrBaseBounds.Terminate(wiretest.Hex(writeULPDU))
	built.Layer = 2
	swapped = built.Swapped()
	require.Equal(t, []uint8{1, 2, 1}, []uint8{swapped.Layer, swapped.Type, swapped.Code})
	require.Equal(t, built.DDP, swapped.DDP)
}

// A frame cannot claim a part that it does not have.
func TestTerminateAppendConsistent(t *testing.T) {
	header, request := wiretest.Hex(readDDP), wiretest.Hex(readRequest)
	tests := []struct {
		name string
		term rdmap.Terminate
		want string
	}{
		{"nothing", rdmap.Terminate{Layer: 2, Code: 2}, "20 02 00 00"},
		{"length alone", rdmap.Terminate{Layer: 1, Type: 1, HdrM: true, SegLen: 7}, "11 00 80 00 0007"},
		{"D implies M", rdmap.Terminate{Layer: 1, Type: 2, HdrD: true, DDP: header, SegLen: 7}, "12 00 c0 00 0007" + readDDP},
		{"D without bytes", rdmap.Terminate{Layer: 1, Type: 2, HdrD: true}, "12 00 00 00"},
		{"D with part of a header", rdmap.Terminate{Layer: 1, Type: 2, HdrM: true, HdrD: true, DDP: header[:14]}, "12 00 80 00 0000"},
		{"bytes without D", rdmap.Terminate{Layer: 1, Type: 2, DDP: header, RDMAP: request}, "12 00 00 00"},
		{"R without D", rdmap.Terminate{Type: 1, HdrM: true, HdrR: true, DDP: header, RDMAP: request}, "01 00 80 00 0000"},
		{
			"R with part of a header", rdmap.Terminate{Type: 1, HdrM: true, HdrD: true, HdrR: true, DDP: header, RDMAP: request[:27]},
			"01 00 c0 00 0000" + readDDP,
		},
		{"type of more than four bits", rdmap.Terminate{Layer: 1, Type: 0x21}, "11 00 00 00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, wiretest.Hex(tt.want), tt.term.Append(nil))
		})
	}
}

func TestTerminateStringUnknownLayer(t *testing.T) {
	require.Equal(t, "unknown layer: unknown error (7/3/0x09)", (&rdmap.Terminate{Layer: 7, Type: 3, Code: 9}).String())
}
