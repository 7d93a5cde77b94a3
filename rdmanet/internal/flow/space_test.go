package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpaceFollowsTheReader(t *testing.T) {
	const k = 1 << 10
	now := time.Now()
	for name, s := range map[string]struct {
		budget, others, most uint64
		first                uint64
		reads                []time.Duration // for half the space each
		then                 []uint64
	}{
		"quick":         {budget: 8192 * k, most: 2048 * k, first: 512 * k, reads: []time.Duration{0, 1, time.Second / 4, 0}, then: []uint64{1024 * k, 2048 * k, 2048 * k, 2048 * k}},
		"no power of 2": {budget: 8192 * k, most: 600 * k, first: 512 * k, reads: []time.Duration{0, 0}, then: []uint64{600 * k, 600 * k}},
		"little":        {budget: 8192 * k, most: 4 * k, first: 4 * k, reads: []time.Duration{0}, then: []uint64{4 * k}},
		"neither":       {budget: 8192 * k, most: 2048 * k, first: 512 * k, reads: []time.Duration{time.Second, time.Second}, then: []uint64{512 * k, 512 * k}},
		"slow":          {budget: 8192 * k, most: 2048 * k, first: 512 * k, reads: []time.Duration{0, 0, time.Minute, time.Minute, time.Minute}, then: []uint64{1024 * k, 2048 * k, 1024 * k, 512 * k, 512 * k}},
		"short":         {budget: 1024 * k, most: 2048 * k, first: 512 * k, reads: []time.Duration{0, 0}, then: []uint64{1024 * k, 1024 * k}},
		"others":        {budget: 1024 * k, others: 900 * k, most: 2048 * k, first: 64 * k, reads: []time.Duration{0}, then: []uint64{64 * k}},
		"over":          {budget: 512 * k, others: 510 * k, most: 1024 * k, first: 16 * k, reads: []time.Duration{0}, then: []uint64{16 * k}},
		"nothing":       {budget: 0, most: 1024 * k, first: 16 * k, reads: []time.Duration{0}, then: []uint64{16 * k}},
		"little, over":  {budget: 0, most: 4 * k, first: 4 * k, reads: []time.Duration{0}, then: []uint64{4 * k}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &Budget{Limit: s.budget}
			b.sum.Add(s.others)
			var sp Space
			now := now
			sp.Open(b, uint32(s.most), now)
			require.EqualValues(t, s.first, sp.bytes)
			for i, took := range s.reads {
				now = now.Add(took)
				sp.adapt(now)
				require.EqualValues(t, s.then[i], sp.bytes, "after read %d", i)
				require.Equal(t, s.others+uint64(sp.bytes), b.Held())
			}
			sp.Close()
			sp.Close()
			require.Equal(t, s.others, b.Held())
		})
	}
}

// Connections that have grown give back what others lack.
func TestSpaceShrinksOverBudget(t *testing.T) {
	const k = 1 << 10
	b := &Budget{Limit: 1024 * k}
	now := time.Now()
	var grown Space
	grown.Open(b, 4096*k, now)
	grown.adapt(now)
	require.EqualValues(t, 1024*k, grown.bytes)
	var late Space
	late.Open(b, 4096*k, now)
	require.EqualValues(t, 16*k, late.bytes)
	grown.adapt(now)
	require.EqualValues(t, 512*k, grown.bytes)
	late.adapt(now)
	require.EqualValues(t, 32*k, late.bytes)
}

func TestBlocksFitWhatTheyHold(t *testing.T) {
	for _, s := range []struct{ pieces, size, most int }{
		{pieces: 1, size: 1, most: 512},
		{pieces: 1, size: 512, most: 512},
		{pieces: 1, size: 513, most: 4 << 10},
		{pieces: 1, size: 4097, most: 16 << 10},
		{pieces: 4097, size: 1, most: 2*4096 + 512},
		{pieces: 1 << 18, size: 1, most: 1<<18 + 64<<10},
		{pieces: 40, size: 1 << 15, most: 40<<15 + 64<<10},
	} {
		var l blockList
		for range s.pieces {
			l.append(make([]byte, s.size))
		}
		held := 0
		for l.last != nil {
			held += len(l.first().Buf)
			l.pop()
		}
		require.LessOrEqual(t, held, s.most, "for %d pieces of %d bytes", s.pieces, s.size)
	}
}
