package flow

import (
	"math/bits"
	"time"
)

const (
	firstPiece = 4 << 10
	leastPiece = 2 << 10
	// pacePart is the part of a second in which a piece is to arrive.
	pacePart = 32
)

// pace bounds the pieces in which bytes arrive that cannot be read one by one: they are short at
// first, and as long as the peer's reader is slow. How fast that one is shows in the peer's words
// about space, end to end: a relay in between takes bytes much sooner than it hands them on.
type pace struct {
	most  int       // bytes of the largest piece; 0 means that it is up to the transport
	piece int       // of the largest one at present
	since time.Time // when the peer last told of space
	sent  uint64    // bytes since then
	news  bool      // piece has changed
}

// start bounds pieces from now on.
func (p *pace) start(most int, now time.Time) {
	*p = pace{most: most, piece: min(most, firstPiece), since: now}
}

// told records that the peer gives n bytes of space, for what was read.
func (p *pace) told(n uint64, now time.Time) {
	if p.most == 0 || p.sent < n/2 {
		return // space of the start
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
