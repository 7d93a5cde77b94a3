package flow

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

func exposed(offset, addr uint64, length uint32) wire.IomapEntry {
	return wire.IomapEntry{Offset: offset, SGE: wire.SGE{Addr: addr, Key: 7, Length: length}}
}

// What the peer writes into the table counts once a word says so, and once all of it is there.
func TestMappings(t *testing.T) {
	const index = 3
	const at = index * wire.IomapEntryLen
	var first, second [wire.IomapEntryLen]byte
	wire.LittleEndian.PutIomapEntry(first[:], exposed(100, 0x1000, 10))
	wire.LittleEndian.PutIomapEntry(second[:], exposed(200, 0x2000, 20))
	for name, do := range map[string]func(m *Mappings) error{
		"whole":     func(m *Mappings) error { m.Place(at, first[:]); return nil },
		"in pieces": func(m *Mappings) error { m.Place(at, first[:5]); m.Place(at+5, first[5:]); return nil },
		"twice, words later": func(m *Mappings) error {
			m.Place(at, second[:])
			m.Place(at, first[:])
			return m.Update(index, wire.LittleEndian)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Mappings{Table: make([]byte, wire.IomapTableLen), Placed: true}
			require.NoError(t, do(m))
			require.NoError(t, m.Update(index, wire.LittleEndian))
			require.Equal(t, exposed(100, 0x1000, 10), *m.Find(109))
			require.Nil(t, m.Find(110))
			require.Nil(t, m.Find(99))

			m.Place(at, second[:8])
			require.NoError(t, m.Update(index, wire.LittleEndian), "half of it: the word may be for the entry before")
			require.NotNil(t, m.Find(100))
			m.Place(at+8, second[8:])
			require.NoError(t, m.Update(index, wire.LittleEndian))
			require.Nil(t, m.Find(100))
			require.NotNil(t, m.Find(219))

			require.True(t, m.Revoke(index))
			require.Nil(t, m.Find(219))
			require.False(t, m.Revoke(index))
		})
	}
}

func TestMappingsRefuse(t *testing.T) {
	for name, e := range map[string]wire.IomapEntry{
		"memory beyond 64 bits":  exposed(0, 1<<64-4, 5),
		"offsets beyond 64 bits": exposed(1<<64-4, 0, 5),
	} {
		m := &Mappings{Table: make([]byte, wire.IomapTableLen)}
		wire.LittleEndian.PutIomapEntry(m.Table, e)
		require.ErrorIs(t, m.Update(0, wire.LittleEndian), wire.ErrProtocol, name)
		require.Nil(t, m.Find(1<<64-1), name)
	}
	m := &Mappings{Table: make([]byte, wire.IomapTableLen), Placed: true}
	m.Place(0, make([]byte, wire.IomapEntryLen-1))
	require.ErrorIs(t, m.Update(0, wire.LittleEndian), wire.ErrProtocol, "never whole")
	var none *Mappings
	require.ErrorIs(t, none.Update(0, wire.LittleEndian), wire.ErrProtocol)
	require.Nil(t, none.Find(0))
	require.False(t, none.Revoke(0))
}

// A word about exposed memory takes a credit of a peer of ours, and a receive that a plain one has
// in reserve.
func TestWordsAboutExposedMemory(t *testing.T) {
	for _, c := range []struct {
		extended bool
		credits  uint16
		words    int
	}{{true, 16, 16}, {false, 16, 4}, {false, 384, 24}, {false, 2, 1}} {
		o := newOutbound(c.credits, sge(0, 1, 100), c.extended, false)
		n := 0
		for ; o.MayMap(c.extended); n++ {
			o.Mapped(c.extended)
		}
		require.Equal(t, c.words, n, "%+v", c)
		if !c.extended {
			require.NoError(t, o.Update(c.credits))
			require.True(t, o.MayMap(false), "the peer has taken them")
		}
	}
}
