package mpa_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

func TestFPDUGolden(t *testing.T) {
	for _, g := range wiretest.FPDUs() {
		t.Run(g.Name, func(t *testing.T) {
			n, ok := mpa.Peek(g.Bytes)
			require.True(t, ok)
			require.Len(t, g.Bytes, n)

			ulpdu, err := mpa.CheckFPDU(g.Bytes, g.CRC)
			require.NoError(t, err)
			require.Equal(t, int(g.Bytes[0])<<8|int(g.Bytes[1]), len(ulpdu))
			if !g.CRC {
				_, err = mpa.CheckFPDU(g.Bytes, true)
				require.ErrorIs(t, err, mpa.ErrCRC)
			}

			dirty := bytes.Repeat([]byte{0xa5}, n+8)
			copy(dirty[mpa.LengthLen:], ulpdu)
			require.Equal(t, g.Bytes, mpa.Seal(dirty, len(ulpdu), g.CRC))
			require.Equal(t, bytes.Repeat([]byte{0xa5}, 8), dirty[n:], "written beyond the FPDU")
		})
	}
}

// A change of any single bit of an FPDU with CRC is noticed: it is refused, or never
// complete, whatever follows it in the stream.
func TestFPDUBitFlips(t *testing.T) {
	var tail []byte
	for _, g := range wiretest.FPDUs() {
		if g.CRC {
			tail = append(tail, g.Bytes...)
		}
	}
	for _, g := range wiretest.FPDUs() {
		if !g.CRC {
			continue
		}
		for bit := range 8 * len(g.Bytes) {
			flipped := bytes.Clone(g.Bytes)
			flipped[bit/8] ^= 1 << (bit % 8)

			alone := wiretest.Split(true, flipped)
			require.Empty(t, alone.Segments, "%s, bit %d", g.Name, bit)
			followed := wiretest.Split(true, flipped, tail)
			require.Empty(t, followed.Segments, "%s, bit %d", g.Name, bit)

			n, _ := mpa.Peek(flipped)
			if n <= len(flipped) {
				require.Error(t, alone.Err, "%s, bit %d", g.Name, bit)
			}
			_, err := mpa.CheckFPDU(flipped, true)
			require.Error(t, err, "%s, bit %d", g.Name, bit)
		}
	}
}

func TestCheckFPDULength(t *testing.T) {
	whole := mpa.Seal(make([]byte, 64), 19, true)
	for n := range 64 {
		_, err := mpa.CheckFPDU(whole[:n:n][:n], true)
		if n == len(whole) {
			require.NoError(t, err)
			break
		}
		require.ErrorIs(t, err, mpa.ErrLength, n)
	}
	_, err := mpa.CheckFPDU(append(whole, 0), false)
	require.ErrorIs(t, err, mpa.ErrLength)
	_, err = mpa.CheckFPDU(append(whole, 0, 0, 0, 0), false)
	require.ErrorIs(t, err, mpa.ErrLength)
}

// Without CRC the values of pad and CRC field do not matter.
func TestCheckFPDUIgnoresPadAndCRC(t *testing.T) {
	fpdu := mpa.Seal(make([]byte, 64), 3, false)
	for i := mpa.LengthLen + 3; i < len(fpdu); i++ {
		fpdu[i] = 0xff
	}
	ulpdu, err := mpa.CheckFPDU(fpdu, false)
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0, 0}, ulpdu)
}

// A pad that is not zero is valid as long as the CRC covers it.
func TestCheckFPDUAcceptsPad(t *testing.T) {
	fpdu := mpa.Seal(make([]byte, 64), 3, false)
	body := fpdu[:len(fpdu)-mpa.CRCLen]
	body[len(body)-1] = 0xee
	mpa.PutCRC(fpdu[len(body):], mpa.CRC(body))
	_, err := mpa.CheckFPDU(fpdu, true)
	require.NoError(t, err)
}

func TestFPDULengths(t *testing.T) {
	for n := range mpa.MaxULPDU + 1 {
		pad, length := mpa.Pad(n), mpa.FPDULen(n)
		if pad < 0 || pad > 3 || length%4 != 0 || length != 2+n+pad+4 {
			t.Fatalf("ULPDU of %d: pad %d, FPDU %d", n, pad, length)
		}
		peeked, ok := mpa.Peek([]byte{byte(n >> 8), byte(n)})
		if !ok || peeked != length {
			t.Fatalf("ULPDU of %d: peek %d, %v, FPDU %d", n, peeked, ok, length)
		}
	}
	require.Equal(t, mpa.MinFPDULen, mpa.FPDULen(0))
	require.Equal(t, mpa.MaxFPDULen, mpa.FPDULen(mpa.MaxULPDU))
	require.Equal(t, 2+65535+3+4, mpa.MaxFPDULen)

	_, ok := mpa.Peek(nil)
	require.False(t, ok)
	_, ok = mpa.Peek([]byte{0})
	require.False(t, ok)
}

func TestSealRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, mpa.MaxFPDULen)
	sizes := []int{0, 1, 2, 3, 4, 5, 14, 18, 46, 1442, mpa.MaxULPDU - 1, mpa.MaxULPDU}
	for range 200 {
		sizes = append(sizes, random.IntN(3000))
	}
	for _, n := range sizes {
		for _, crc := range []bool{false, true} {
			payload := make([]byte, n)
			for i := range payload {
				payload[i] = byte(random.Uint32())
			}
			copy(buf[mpa.LengthLen:], payload)
			fpdu := mpa.Seal(buf, n, crc)
			require.Len(t, fpdu, mpa.FPDULen(n))
			got, err := mpa.CheckFPDU(fpdu, crc)
			require.NoError(t, err)
			require.True(t, bytes.Equal(payload, got))
		}
	}
}

func TestSealPanics(t *testing.T) {
	require.Panics(t, func() { mpa.Seal(make([]byte, 27), 19, false) })
	require.Panics(t, func() { mpa.Seal(make([]byte, 1<<17), mpa.MaxULPDU+1, false) })
	require.Panics(t, func() { mpa.Seal(make([]byte, 64), -1, false) })
}

func TestMULPDU(t *testing.T) {
	tests := []struct{ emss, plain, markers int }{
		{1448, 1442, 1430},
		{1460, 1454, 1442},
		{1449, 1442, 1430},
		{1451, 1442, 1430},
		{536, 530, 522},
		{512, 506, 502},
		{513, 506, 498},
		{8948, 8942, 8870},
		{65483, 65474, 64962},
		{0, mpa.MinMULPDU, mpa.MinMULPDU},
		{-1, mpa.MinMULPDU, mpa.MinMULPDU},
		{math.MinInt, mpa.MinMULPDU, mpa.MinMULPDU},
		{88, mpa.MinMULPDU, mpa.MinMULPDU},
		{65543, mpa.MaxULPDU - 1, 65018},
		{65544, mpa.MaxULPDU, 65022},
		{1 << 20, mpa.MaxULPDU, mpa.MaxULPDU},
		{math.MaxInt, mpa.MaxULPDU, mpa.MaxULPDU},
	}
	for _, tt := range tests {
		require.Equal(t, tt.plain, mpa.MULPDU(tt.emss), "EMSS %d", tt.emss)
		require.Equal(t, tt.markers, mpa.MULPDUMarkers(tt.emss), "EMSS %d", tt.emss)
	}
}

// An FPDU of MULPDU bytes fills the segment as far as its multiple of four allows.
func TestMULPDUFits(t *testing.T) {
	for emss := mpa.MinMULPDU + 10; emss < 65540; emss++ {
		if got := mpa.FPDULen(mpa.MULPDU(emss)); got > emss || got <= emss-4 {
			t.Fatalf("EMSS %d: FPDU of %d", emss, got)
		}
		markers := (emss + 511) / 512
		if got := mpa.FPDULen(mpa.MULPDUMarkers(emss)) + 4*markers; emss > 256 && (got > emss || got <= emss-4) {
			t.Fatalf("EMSS %d with markers: FPDU of %d", emss, got)
		}
	}
}
