//go:build linux

package kernel

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// siw clears the flag that it has to add the payload of an FPDU to the CRC in a byte with other
// flags, which another CPU writes at the same time, without a lock (siw.h: do_crc and in_syscall).
// Where that brings the flag back and TCP had no room for all of the FPDU, what is left is added
// once more as it is sent.
const hashesTwice = "siw has added payload to a CRC for a second time, as it had to wait within an FPDU"

// notOurCRC is what our end says of that.
const notOurCRC = "connection terminated for the peer's fault: mpa: CRC mismatch"

// hashedTwice reports whether the CRC of an FPDU is wrong in that way.
func hashedTwice(fpdu []byte) bool {
	const lengthLen, taggedLen, untaggedLen, tagged, crcLen = 2, 14, 18, 0x80, 4
	header := lengthLen + untaggedLen
	if len(fpdu) > lengthLen && fpdu[lengthLen]&tagged != 0 {
		header = lengthLen + taggedLen
	}
	if len(fpdu) < header+crcLen {
		return false
	}
	hashed, crc := fpdu[:len(fpdu)-crcLen], binary.LittleEndian.Uint32(fpdu[len(fpdu)-crcLen:])
	table := crc32.MakeTable(crc32.Castagnoli)
	once := crc32.Checksum(hashed, table)
	for rest := hashed[header:]; once != crc && len(rest) > 0; rest = rest[1:] {
		if crc32.Update(once, table, rest) == crc {
			return true
		}
	}
	return false
}

// play runs both ends of a cell with a stream, and expects success. Where siw has hashed twice it
// runs them again; the capture has to show that.
func (g *guest) play(t *testing.T, m meeting, c cell, ours, theirs func(p pair, server bool) []string) {
	t.Helper()
	record(t, c)
	s := m.o.stream(m.goServes)
	var goEnd, cEnd *agent.Process
	for range 3 {
		p := g.newPair(m.goServes, m.route)
		goEnd, cEnd = g.roles(t, p, func(server bool) []string { return ours(p, server) }, func(server bool) []string { return theirs(p, server) })
		exit, err := goEnd.Wait()
		s.hashedTwice = err == nil && exit != 0 && strings.Contains(goEnd.Stderr(), notOurCRC)
		m.want.add(t, p, s)
		if !s.hashedTwice {
			break
		}
		fault(t, c, hashesTwice)
		cEnd.Kill()
		g.terminates.Add(1)
	}
	succeeds(t, goEnd)
	succeeds(t, cEnd)
}

func TestHashedTwice(t *testing.T) {
	table := crc32.MakeTable(crc32.Castagnoli)
	seal := func(fpdu []byte, crc uint32) []byte {
		return binary.LittleEndian.AppendUint32(fpdu[:len(fpdu):len(fpdu)], crc)
	}
	for _, c := range []struct {
		name    string
		control byte
		header  int
	}{{"tagged", 0xc1, 16}, {"untagged", 0x41, 20}} {
		t.Run(c.name, func(t *testing.T) {
			fpdu := make([]byte, c.header+100)
			for i := range fpdu {
				fpdu[i] = byte(i)
			}
			fpdu[2] = c.control
			once := crc32.Checksum(fpdu, table)
			require.False(t, hashedTwice(seal(fpdu, once)))
			require.False(t, hashedTwice(seal(fpdu, once+1)))
			require.False(t, hashedTwice(seal(fpdu, crc32.Update(once, table, fpdu[c.header-1:]))))
			require.True(t, hashedTwice(seal(fpdu, crc32.Update(once, table, fpdu[c.header:]))))
			require.True(t, hashedTwice(seal(fpdu, crc32.Update(once, table, fpdu[c.header+60:]))))
			require.False(t, hashedTwice(fpdu[:c.header]))
		})
	}
}
