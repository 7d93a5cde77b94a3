package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPieces(t *testing.T) {
	type told struct {
		sent, space uint32
		after       time.Duration
		piece       int
		news        bool
	}
	for name, s := range map[string]struct {
		most  int
		first int
		told  []told
	}{
		"fast":             {most: 32 << 10, first: 4 << 10, told: []told{{256 << 10, 256 << 10, time.Millisecond, 32 << 10, true}, {256 << 10, 512 << 10, time.Millisecond, 32 << 10, false}}},
		"no time":          {most: 32 << 10, first: 4 << 10, told: []told{{256 << 10, 256 << 10, 0, 32 << 10, true}}},
		"slow":             {most: 32 << 10, first: 4 << 10, told: []told{{256 << 10, 256 << 10, 10 * time.Second, 2 << 10, true}}},
		"very slow":        {most: 32 << 10, first: 4 << 10, told: []told{{256 << 10, 256 << 10, 100 * time.Hour, 2 << 10, true}}},
		"between":          {most: 32 << 10, first: 4 << 10, told: []told{{256 << 10, 256 << 10, 600 * time.Millisecond, 8 << 10, true}}},
		"slower, faster":   {most: 64 << 10, first: 4 << 10, told: []told{{256 << 10, 256 << 10, 10 * time.Second, 2 << 10, true}, {256 << 10, 256 << 10, time.Millisecond, 64 << 10, true}}},
		"space beforehand": {most: 64 << 10, first: 4 << 10, told: []told{{100, 64 << 10, time.Minute, 4 << 10, false}, {64 << 10, 64 << 10, time.Minute, 2 << 10, true}}},
		"small":            {most: 1 << 10, first: 1 << 10, told: []told{{256 << 10, 256 << 10, time.Hour, 1 << 10, false}, {256 << 10, 256 << 10, 0, 1 << 10, false}}},
		"no power of 2":    {most: 3000, first: 3000, told: []told{{256 << 10, 256 << 10, time.Hour, 2 << 10, true}, {256 << 10, 256 << 10, 0, 3000, true}}},
		"not ours":         {most: 0, first: 0, told: []told{{256 << 10, 256 << 10, time.Hour, 0, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			var p pace
			now := time.Now()
			p.start(s.most, now)
			require.EqualValues(t, s.first, p.piece)
			for i, w := range s.told {
				p.sent += w.sent
				now = now.Add(w.after)
				p.news = false
				p.told(uint64(w.space), now)
				require.EqualValues(t, w.piece, p.piece, "word %d", i)
				require.Equal(t, w.news, p.news, "word %d", i)
			}
		})
	}
}

// Segments follow the pace only where data has no words.
func TestSegmentsFollowThePace(t *testing.T) {
	for _, wordless := range []bool{true, false} {
		now := time.Now()
		o := Outbound{Wordless: wordless}
		require.Zero(t, o.Piece())
		o.SetPieces(32<<10, now)
		require.Equal(t, firstPiece, o.Piece())
		require.Zero(t, o.NewSegment(), "it is known from the start")
		o.pace.sent = 256 << 10
		o.pace.told(256<<10, now.Add(time.Millisecond))
		require.Equal(t, 32<<10, o.Piece())
		want := 0
		if wordless {
			want = 32 << 10
		}
		require.Equal(t, want, o.NewSegment())
		require.Zero(t, o.NewSegment())
	}
}
