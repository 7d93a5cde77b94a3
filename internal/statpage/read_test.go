package statpage_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/statpage"
)

// pageBytes returns a page with n free records.
func pageBytes(n int) []byte {
	b := make([]byte, statpage.HeaderSize+n*statpage.RecordSize)
	copy(b, "IWRPSTAT")
	put(b, statpage.HeadVersion, 1|statpage.HeaderSize<<32)
	put(b, statpage.HeadRecord, statpage.RecordSize)
	put(b, statpage.HeadCapacity, uint64(n))
	return b
}

func put(b []byte, word int, v uint64) { binary.NativeEndian.PutUint64(b[8*word:], v) }

func TestRead(t *testing.T) {
	with := func(word int, v uint64) []byte {
		b := pageBytes(2)
		put(b, word, v)
		return b
	}
	for name, tt := range map[string]struct {
		page []byte
		want error
		text string
	}{
		"whole":                {page: pageBytes(2)},
		"longer":               {page: append(pageBytes(2), make([]byte, 1000)...)},
		"no records":           {page: pageBytes(0)},
		"empty":                {page: nil, want: statpage.ErrNotPage, text: "not a statistics page of this host"},
		"something else":       {page: bytes.Repeat([]byte("text "), 2000), want: statpage.ErrNotPage},
		"zeroes":               {page: make([]byte, 8192), want: statpage.ErrNotPage},
		"newer":                {page: with(statpage.HeadVersion, 7|statpage.HeaderSize<<32), want: &statpage.VersionError{Version: 7}, text: "statistics page has version 7, this program reads version 1"},
		"header cut short":     {page: pageBytes(2)[:100], want: statpage.ErrShort, text: "statistics page is cut short"},
		"version cut short":    {page: pageBytes(2)[:9], want: statpage.ErrShort},
		"records cut short":    {page: pageBytes(2)[:statpage.HeaderSize+300], want: statpage.ErrShort},
		"more records than is": {page: with(statpage.HeadCapacity, 3), want: statpage.ErrShort},
		"too many records":     {page: with(statpage.HeadCapacity, 1<<40), want: statpage.ErrMalformed, text: "malformed statistics page"},
		"small records":        {page: with(statpage.HeadRecord, 8), want: statpage.ErrMalformed},
		"large records":        {page: with(statpage.HeadRecord, 1<<20), want: statpage.ErrMalformed},
		"small header":         {page: with(statpage.HeadVersion, 1|100<<32), want: statpage.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := statpage.Read(bytes.NewReader(tt.page))
			var version *statpage.VersionError
			switch {
			case tt.want == nil:
				require.NoError(t, err)
				require.Empty(t, p.Entries)
			case errors.As(tt.want, &version):
				require.Equal(t, tt.want, err)
			default:
				require.ErrorIs(t, err, tt.want)
			}
			if tt.text != "" {
				require.EqualError(t, err, tt.text)
			}
		})
	}
}

// TestReadLargerRecords reads a page to whose header and records something was added.
func TestReadLargerRecords(t *testing.T) {
	const header, size = statpage.HeaderSize + 64, statpage.RecordSize + 16
	b := make([]byte, header+2*size)
	copy(b, pageBytes(0))
	put(b, statpage.HeadVersion, 1|header<<32)
	put(b, statpage.HeadRecord, size)
	put(b, statpage.HeadCapacity, 2)
	put(b[header+size:], 0, 2<<8|uint64(statpage.KindListener))
	p, err := statpage.Read(bytes.NewReader(b))
	require.NoError(t, err)
	require.Len(t, p.Entries, 1)
	require.Equal(t, statpage.KindListener, p.Entries[0].Kind)
}

// TestReadBusy gives up on a record that is being written all the time, as by a process that was
// stopped meanwhile, but not on the others.
func TestReadBusy(t *testing.T) {
	b := pageBytes(2)
	put(b[statpage.HeaderSize:], 0, 1<<8|uint64(statpage.KindConn))
	put(b[statpage.HeaderSize+statpage.RecordSize:], 0, 2<<8|uint64(statpage.KindConn))
	p, err := statpage.Read(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, 1, p.Busy)
	require.Len(t, p.Entries, 1)
}

func FuzzRead(f *testing.F) {
	full := pageBytes(4)
	for i := range 3 {
		put(full[statpage.HeaderSize+i*statpage.RecordSize:], 0, uint64(i+1))
	}
	for i := statpage.HeaderSize + statpage.RecordSize; i < len(full); i++ {
		if i%statpage.RecordSize > 8 {
			full[i] = byte(i * 7)
		}
	}
	newer := pageBytes(1)
	put(newer, statpage.HeadVersion, 2|statpage.HeaderSize<<32)
	for _, seed := range [][]byte{nil, pageBytes(0), full, full[:len(full)-9], full[:statpage.HeaderSize-1], newer, bytes.Repeat([]byte{0xff}, 5000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := statpage.Read(bytes.NewReader(b))
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		for i := range p.Entries {
			e := &p.Entries[i]
			e.Flow()
			e.Clients()
			require.NotEmpty(t, e.State.String()+e.State.OfListener()+e.State.OfPort())
			for _, s := range []string{e.Text, e.Device, e.Transport} {
				require.NotContains(t, s, "\x1b")
			}
			_, _ = e.Local.String(), e.Remote.String()
			_ = e.Since.String()
		}
	})
}
