package regions_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
)

// owner counts the calls that it gets.
type owner struct{ changed, revoked *int }

func (o owner) RegionsChanged() { *o.changed++ }
func (o owner) RegionRevoked()  { *o.revoked++ }

// newTable returns a table and counters of its calls.
func newTable() (t *regions.Table, changed, revoked *int) {
	changed, revoked = new(int), new(int)
	return &regions.Table{Owner: owner{changed, revoked}}, changed, revoked
}

func add(t *testing.T, table *regions.Table, mem []byte, access transport.Access) *regions.Region {
	t.Helper()
	r := &regions.Region{Access: access, Length: uint64(len(mem)), Mem: mem}
	require.NoError(t, table.Add(r))
	return r
}

func TestTable(t *testing.T) {
	table, changed, revoked := newTable()
	require.False(t, table.Exposed())
	require.Error(t, table.Add(&regions.Region{}), "an empty region")
	require.Zero(t, *changed)

	local := add(t, table, make([]byte, 8), transport.LocalWrite)
	driven := add(t, table, make([]byte, 8), transport.RemoteWrite|transport.CallerDriven)
	require.False(t, table.Exposed())
	served := add(t, table, make([]byte, 8), transport.RemoteRead)
	require.True(t, table.Exposed())
	require.Equal(t, 3, *changed)

	require.False(t, local.Remote())
	require.True(t, driven.Remote())
	require.True(t, served.Remote())
	for _, r := range []*regions.Region{local, driven, served} {
		require.Greater(t, uint32(r.STag()), uint32(1))
		require.Zero(t, r.Base())
		require.EqualValues(t, 8, r.Len())
		require.True(t, table.Holds(r))
		table.RLock()
		require.Same(t, r, table.Lookup(r.STag()))
		table.RUnlock()
	}

	require.NoError(t, served.Deregister())
	require.Equal(t, []int{4, 1}, []int{*changed, *revoked})
	require.False(t, table.Exposed())
	require.False(t, table.Holds(served))
	require.Error(t, served.Deregister(), "it is gone")
	require.True(t, table.Remove(driven.STag()), "the peer revokes it")
	require.Error(t, driven.Deregister())
	require.Equal(t, []int{5, 1}, []int{*changed, *revoked})

	add(t, table, make([]byte, 8), transport.RemoteRead)
	table.Clear()
	require.False(t, table.Exposed())
	require.False(t, table.Holds(local))
	require.Error(t, local.Deregister())
}

// TestManyRegions finds and revokes regions however many there are.
func TestManyRegions(t *testing.T) {
	table, _, _ := newTable()
	var all []*regions.Region
	for range 5 {
		all = append(all, add(t, table, make([]byte, 8), transport.LocalWrite))
	}
	for i, r := range all {
		require.NoError(t, r.Deregister())
		require.Nil(t, table.Lookup(r.STag()))
		for _, left := range all[i+1:] {
			require.Same(t, left, table.Lookup(left.STag()))
		}
	}
}

type placer struct{}

func (placer) Place(uint64, []byte) (bool, error) { return false, nil }

// TestVerdicts has a peer read, or revoke, what it was given the right to, and nothing else.
func TestVerdicts(t *testing.T) {
	table, _, _ := newTable()
	mine := add(t, table, make([]byte, 8), transport.LocalWrite)
	written := add(t, table, make([]byte, 8), transport.RemoteWrite)
	read := add(t, table, make([]byte, 8), transport.RemoteRead)
	placed := &regions.Region{Access: transport.RemoteRead, Length: 8, Placer: placer{}}
	require.NoError(t, table.Add(placed))
	gone := add(t, table, make([]byte, 8), transport.RemoteRead)
	require.NoError(t, gone.Deregister())

	for name, tt := range map[string]struct {
		r      *regions.Region
		to, n  uint64
		reads  regions.Verdict
		revoke regions.Verdict
	}{
		"gone":           {gone, 0, 8, regions.Unknown, regions.Unknown},
		"not the peer's": {mine, 0, 8, regions.Forbidden, regions.Forbidden},
		"a placer's":     {placed, 0, 8, regions.Forbidden, regions.Forbidden},
		"to be written":  {written, 0, 8, regions.Forbidden, regions.Granted},
		"to be read":     {read, 4, 4, regions.Granted, regions.Granted},
	} {
		r, verdict := table.Source(tt.r.STag(), tt.to, tt.n)
		require.Equal(t, tt.reads, verdict, name)
		require.Equal(t, tt.reads == regions.Granted, r == tt.r, name)
		if tt.reads == regions.Granted {
			r, verdict = table.Source(tt.r.STag(), tt.to+1, tt.n)
			require.Nil(t, r, name)
			require.Equal(t, regions.Outside, verdict, name)
		}
		holds := table.Holds(tt.r)
		require.Equal(t, tt.revoke, table.Invalidate(tt.r.STag()), name)
		require.Equal(t, holds && tt.revoke != regions.Granted, table.Holds(tt.r), name)
	}
}

// TestForeign shows that a table does not take another's regions for its own.
func TestForeign(t *testing.T) {
	table, _, _ := newTable()
	other, _, _ := newTable()
	r := add(t, other, make([]byte, 8), 0)
	require.False(t, table.Holds(r))
	require.False(t, table.Holds(&regions.Region{}))
	require.True(t, other.Holds(r))
	require.NoError(t, r.Deregister())
}

// TestDeregisterWaits shows that Deregister waits for whoever places bytes.
func TestDeregisterWaits(t *testing.T) {
	table, _, _ := newTable()
	r := add(t, table, make([]byte, 8), transport.RemoteWrite)
	table.RLock()
	done := make(chan error)
	go func() { done <- r.Deregister() }()
	select {
	case <-done:
		table.RUnlock()
		t.Fatal("it did not wait")
	case <-time.After(10 * time.Millisecond):
	}
	require.True(t, table.Live(r))
	table.RUnlock()
	require.NoError(t, <-done)
}

func TestInside(t *testing.T) {
	r := &regions.Region{Length: 8}
	for _, in := range [][2]uint64{{0, 0}, {0, 8}, {3, 5}, {8, 0}} {
		require.True(t, r.Inside(in[0], in[1]), in)
	}
	for _, out := range [][2]uint64{{0, 9}, {4, 5}, {8, 1}, {9, 0}, {1<<64 - 1, 2}, {4, 1<<64 - 2}} {
		require.False(t, r.Inside(out[0], out[1]), out)
	}
}

func TestOffset(t *testing.T) {
	array := make([]byte, 16)
	r := &regions.Region{Length: 8, Mem: array[4:12]}
	for off := range uint64(8) {
		got, ok := r.Offset(r.Mem[off:])
		require.True(t, ok)
		require.Equal(t, off, got)
	}
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"empty":          r.Mem[:0],
		"before it":      array[:4],
		"across its end": array[8:13],
		"behind it":      array[12:],
		"elsewhere":      make([]byte, 8, 12),
		"another end":    array[4:8:8],
	} {
		_, ok := r.Offset(b)
		require.False(t, ok, name)
	}
}
