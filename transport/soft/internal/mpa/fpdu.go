package mpa

import "encoding/binary"

// Sizes of the parts of an FPDU, in bytes.
const (
	LengthLen  = 2     // ULPDU_Length
	CRCLen     = 4     // the CRC field, present whether CRCs are in use or not
	MaxULPDU   = 65535 // the largest ULPDU_Length
	MinFPDULen = LengthLen + 2 + CRCLen
	MaxFPDULen = (LengthLen+MaxULPDU+3)&^3 + CRCLen
)

// MinMULPDU is the least that MULPDU and MULPDUMarkers return: room for every fixed
// header and some payload even when TCP reports a useless segment size.
const MinMULPDU = 128

const (
	markerLen      = 4
	markerInterval = 512
)

// Pad returns the number of pad bytes, 0 to 3, that follow a ULPDU of the given length.
func Pad(ulpdu int) int { return -(LengthLen + ulpdu) & 3 }

// FPDULen returns the length on the wire of the FPDU that carries a ULPDU of the
// given length, 0 to MaxULPDU: ULPDU_Length, ULPDU, pad and CRC. It is a multiple of four.
func FPDULen(ulpdu int) int { return (LengthLen+ulpdu+3)&^3 + CRCLen }

// Peek returns the length of the FPDU that starts at b, MinFPDULen to MaxFPDULen.
// ok is false while b is too short to tell, that is below two bytes.
func Peek(b []byte) (fpduLen int, ok bool) {
	if len(b) < LengthLen {
		return 0, false
	}
	return FPDULen(int(binary.BigEndian.Uint16(b))), true
}

// Seal completes an FPDU of which only the ULPDU, at fpdu[2:2+ulpdu], is written: it
// sets ULPDU_Length, zeroes the pad and stores the CRC, or zero when crc is false.
// It returns the finished FPDU, fpdu[:FPDULen(ulpdu)], and panics if fpdu is
// shorter than that or ulpdu is outside 0..MaxULPDU.
func Seal(fpdu []byte, ulpdu int, crc bool) []byte {
	body := Close(fpdu, ulpdu)
	fpdu = fpdu[:len(body)+CRCLen]
	var sum uint32
	if crc {
		sum = CRC(body)
	}
	PutCRC(fpdu[len(body):], sum)
	return fpdu
}

// Close is Seal but for the CRC. It returns what that covers; the CRC belongs right after it.
func Close(fpdu []byte, ulpdu int) (body []byte) {
	if uint(ulpdu) > MaxULPDU {
		panic("mpa: ULPDU length out of range")
	}
	fpdu = fpdu[:FPDULen(ulpdu)]
	binary.BigEndian.PutUint16(fpdu, uint16(ulpdu))
	body = fpdu[:len(fpdu)-CRCLen]
	clear(body[LengthLen+ulpdu:])
	return body
}

// CheckFPDU checks exactly one FPDU, from ULPDU_Length to the CRC, and returns its
// ULPDU, which aliases fpdu and is empty for a ULPDU_Length of zero. The CRC is
// compared only if crc is true; the value of the pad is never looked at. Errors:
// ErrLength when fpdu is not as long as its ULPDU_Length demands, ErrCRC.
func CheckFPDU(fpdu []byte, crc bool) (ulpdu []byte, err error) {
	n, ok := Peek(fpdu)
	if !ok || n != len(fpdu) {
		return nil, ErrLength
	}
	if crc {
		body := fpdu[:n-CRCLen]
		if CRC(body) != GetCRC(fpdu[n-CRCLen:]) {
			return nil, ErrCRC
		}
	}
	return fpdu[LengthLen : LengthLen+int(binary.BigEndian.Uint16(fpdu))], nil
}

// MULPDU returns the largest ULPDU whose FPDU fits, unpadded, into one TCP segment
// of emss bytes, without markers (RFC 5044, section 4.5). The result is
// within MinMULPDU..MaxULPDU whatever emss is; below an emss of about MinMULPDU the FPDU
// therefore does not fit.
func MULPDU(emss int) int {
	emss = min(max(emss, 0), 2*MaxULPDU)
	return clampULPDU(emss - (LengthLen + CRCLen + emss%4))
}

// MULPDUMarkers is MULPDU for a stream that carries a marker every 512 bytes.
func MULPDUMarkers(emss int) int {
	emss = min(max(emss, 0), 2*MaxULPDU)
	markers := (emss + markerInterval - 1) / markerInterval
	return clampULPDU(emss - (LengthLen + CRCLen + markerLen*markers + emss%4))
}

func clampULPDU(n int) int { return min(max(n, MinMULPDU), MaxULPDU) }
