package wire

import (
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

// CVE-2024-49568, CVE-2024-49571, CVE-2024-47408, CVE-2026-80986 (SMC): offsets and counts in the
// messages of the set-up are used without a check. Here each pair of fields of the connection data
// has each pair of values at which a sum or a sign turns over.
func TestCVE2024_49568(t *testing.T) {
	edges := []uint64{0, 1, 2, 3, 15, 16, 1<<7 - 1, 1 << 7, 1<<8 - 1, 1<<15 - 1, 1 << 15, 1<<16 - 1, 1<<31 - 1, 1 << 31, 1<<32 - 1,
		1<<63 - 1, 1 << 63, 1<<64 - 1<<32, 1<<64 - 32, 1<<64 - 1}
	fields := []struct {
		name     string
		at, size int
	}{{"version", 0, 1}, {"flags", 1, 1}, {"credits", 2, 2}, {"iomap", 7, 1}, {"table", 8, 8}, {"entries", 20, 4}, {"ring", 24, 8}, {"length", 36, 4}}
	put := func(b []byte, at, size int, v uint64) {
		var all [8]byte
		binary.BigEndian.PutUint64(all[:], v)
		copy(b[at:at+size], all[8-size:])
	}
	inside := func(addr, n uint64) bool { // with numbers that do not turn over
		end := new(big.Int).Add(new(big.Int).SetUint64(addr), new(big.Int).SetUint64(n))
		return end.Cmp(new(big.Int).Lsh(big.NewInt(1), 64)) <= 0
	}
	good := append(unhex(t, rsocketClient), "iWAR\x01\x01\x01\x04\x00\x01\x00\x00"...)
	accepted := 0
	for i, f := range fields {
		for _, g := range fields[i:] {
			for _, v := range edges {
				for _, w := range edges {
					b := append([]byte(nil), good...)
					put(b, f.at, f.size, v)
					put(b, g.at, g.size, w)
					d, err := ParseConnData(b)
					if err != nil {
						continue
					}
					accepted++
					require.GreaterOrEqual(t, d.Table.Length, uint32(TableEntries))
					require.True(t, inside(d.Table.Addr, SGELen*uint64(d.Table.Length)+IomapEntryLen*uint64(d.Iomap)), "%s %#x, %s %#x", f.name, v, g.name, w)
					require.True(t, inside(d.Ring.Addr, 2*uint64(d.Ring.Length)), "%s %#x, %s %#x", f.name, v, g.name, w)
				}
			}
		}
	}
	require.NotZero(t, accepted)

	// The list behind it: each length of each field, with each number of bytes left for it.
	const list = 40 + 6
	for n := range 256 {
		for left := range 8 {
			b := append(good[:list:list], 1, byte(n))
			b = append(b, make([]byte, left)...)
			d, err := ParseConnData(b)
			if err == nil {
				require.Equal(t, 4, n)
				require.LessOrEqual(t, n, left)
				require.NotNil(t, d.Ext)
			}
		}
	}
}
