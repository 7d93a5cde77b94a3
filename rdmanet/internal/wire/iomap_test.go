package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIomapEntry(t *testing.T) {
	e := IomapEntry{0x0102030405060708, SGE{0x1112131415161718, 0x21222324, 0x31323334}}
	for _, c := range []struct {
		order Order
		wire  string
	}{
		{LittleEndian, "0807060504030201 1817161514131211 24232221 34333231"},
		{bigEndian, "0102030405060708 1112131415161718 21222324 31323334"},
	} {
		var b [IomapEntryLen]byte
		c.order.PutIomapEntry(b[:], e)
		require.Equal(t, unhex(t, c.wire), b[:])
		require.Equal(t, e, c.order.IomapEntry(b[:]))
	}
}

func TestIomapEntryHas(t *testing.T) {
	e := IomapEntry{1<<64 - 10, SGE{0, 1, 10}}
	require.False(t, e.Has(1<<64-11))
	require.True(t, e.Has(1<<64-10))
	require.True(t, e.Has(1<<64-1))
	require.False(t, e.Has(0), "offsets do not wrap")
	require.False(t, (&IomapEntry{}).Has(0), "an empty entry has nothing")
}
