package flow

import (
	"math/bits"
	"time"
)

const (
	firstPiece = 4 << 10
	leastPiece = 2 << 10
	// pacePart is the fraction of a second in which a piece should arrive.
	pacePart = 32
)

// pace bounds pieces whose bytes can be read only once the whole piece has arrived: they are short
// at first, and stay so while the peer's reader is slow. How fast the reader is shows in the peer's
// words about space, which are end to end: a relay in between takes bytes much sooner than it hands
// them on.
type pace struct {
	most  int       // bytes of the largest piece; 0 leaves it to the transport
	piece int       // of the largest one at present
	since time.Time // when the peer last told of space
	sent  uint64    // bytes since then
	news  bool      // piece has changed
}

// start bounds pieces from now on.
func (p *pace) start(most int, now time.Time) {
	*p = pace{most: most, piece: min(most, firstPiece), since: now}
}

// told records that the peer gives n bytes of space, for what it has read.
func (p *pace) told(n uint64, now time.Time) {
	if p.most == 0 || p.sent < n/2 {
		return // the space given at the start
	}
	soon := float64(p.sent) / max(now.Sub(p.since), time.Microsecond).Seconds() / pacePart
	p.since, p.sent = now, 0
	old := p.piece
	p.piece = p.most
	if soon < float64(p.most) {
		p.piece = min(p.most, 1<<(bits.Len(max(leastPiece, uint(soon)))-1))
	}
	p.news = p.news || p.piece != old
}
