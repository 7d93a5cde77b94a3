package flow

import (
	"math"
	"math/bits"
	"time"

	"github.com/rdmanet/iwarp/internal/instant"
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
	since instant.Time // when the peer last told of space
	sent  uint32       // bytes since then, as far as the number goes
	most  int32        // bytes of the largest piece; 0 leaves it to the transport
	piece int32        // of the largest one at present
	news  bool         // piece has changed
}

// count counts n bytes that are sent.
func (p *pace) count(n uint32) { p.sent += min(n, math.MaxUint32-p.sent) }

// start bounds pieces from now on.
func (p *pace) start(most int, now time.Time) {
	*p = pace{most: int32(most), piece: int32(min(most, firstPiece)), since: instant.Of(now)}
}

// told records that the peer gives n bytes of space, for what it has read.
func (p *pace) told(n uint64, now time.Time) {
	if p.most == 0 || uint64(p.sent) < n/2 {
		return // the space given at the start
	}
	soon := float64(p.sent) / max(now.Sub(p.since.Time()), time.Microsecond).Seconds() / pacePart
	p.since, p.sent = instant.Of(now), 0
	old := p.piece
	p.piece = p.most
	if soon < float64(p.most) {
		p.piece = min(p.most, 1<<(bits.Len(max(leastPiece, uint(soon)))-1))
	}
	p.news = p.news || p.piece != old
}
