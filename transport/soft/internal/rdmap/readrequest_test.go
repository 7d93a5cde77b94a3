package rdmap_test

import (
	"testing"
	"testing/quick"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

func TestReadRequestGolden(t *testing.T) {
	want := rdmap.ReadRequest{SinkSTag: 0xa100, SinkTO: 0x20, Size: 4096, SrcSTag: 0x12345600, SrcTO: 0x1000}
	got, err := rdmap.ParseReadRequest(wiretest.Hex(readRequest))
	require.NoError(t, err)
	require.Equal(t, want, got)
	wire := make([]byte, rdmap.ReadRequestLen)
	want.Put(wire)
	require.Equal(t, wiretest.Hex(readRequest), wire)
}

func TestReadRequestRoundTrip(t *testing.T) {
	require.NoError(t, quick.Check(func(r rdmap.ReadRequest) bool {
		wire := make([]byte, rdmap.ReadRequestLen)
		r.Put(wire)
		got, err := rdmap.ParseReadRequest(wire)
		return err == nil && got == r
	}, nil))
}

func TestReadRequestLength(t *testing.T) {
	for n := range 2 * rdmap.ReadRequestLen {
		_, err := rdmap.ParseReadRequest(make([]byte, n))
		if n == rdmap.ReadRequestLen {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, rdmap.ErrMPALength, n)
		}
	}
	require.Panics(t, func() { (&rdmap.ReadRequest{}).Put(make([]byte, rdmap.ReadRequestLen-1)) })
}
