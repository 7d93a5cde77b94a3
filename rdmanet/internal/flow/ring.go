package flow

import (
	"math"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// A Ring is where the peer places bytes of stream. They count as received once a word has announced
// them or, with a peer that was told so, once they are placed.
//
// With a transport that places by software the ring is virtual: it has a length, but what is placed
// goes straight to the buffer of a waiting Read, or else to blocks from a pool. Otherwise it is
// memory, which the transport fills on its own. The stream can move on to other memory, once. Where
// a byte lies follows from its place in the stream alone, so pieces of a size that divides the
// ring's are not cut at its end, in whichever memory.
//
// It is not safe for concurrent use.
type Ring struct {
	Size uint64      // bytes
	mem  *ringMemory // nil if virtual

	// Bytes of stream since the start, in descending order. In a memory ring placed is not known.
	granted, placed, announced, read uint64

	stored blockList
	direct []byte // buffer of a waiting Read; bytes from read on are placed there
	filled uint32 // bytes in direct

	Wordless bool // what is placed counts as announced
}

// A ringMemory is where a ring that is not virtual lies.
type ringMemory struct {
	b     []byte
	first []byte // the memory of the bytes before moved, if there was a move
	moved uint64 // bytes of stream that were granted before b
}

// Use makes r, which is new, lie in mem.
func (r *Ring) Use(mem []byte) { r.mem, r.Size = &ringMemory{b: mem}, uint64(len(mem)) }

// Place takes the payload of an RDMA Write off bytes into the ring.
func (r *Ring) Place(off uint64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	// The stream fills the ring without gaps. Whatever lies beyond what was granted may still be
	// unread.
	if off != r.placed%r.Size || uint64(len(p)) > r.granted-r.placed {
		return wire.Violation("bytes placed outside the space that was granted")
	}
	end := r.placed + uint64(len(p))
	if int(r.filled) < len(r.direct) { // nothing is stored before it is full
		to := r.direct[r.filled:]
		n := min(len(to), len(p))
		if &to[0] != &p[0] { // as it is for what was put where Target has said
			copy(to, p)
		}
		r.filled += uint32(n)
		p = p[n:]
	}
	r.stored.append(p)
	// It counts once it is there: p may be memory that can no longer be read.
	r.placed = end
	if r.Wordless {
		r.announced = end
	}
	return nil
}

// Target returns where in the buffer of a waiting Read the n bytes from off bytes into the ring on
// belong, if they come next, Place would take them, and all have room there. The end of the ring is
// its beginning.
func (r *Ring) Target(off uint64, n int) []byte {
	at := off % r.Size
	if n <= 0 || at != r.placed%r.Size || n > len(r.direct)-int(r.filled) {
		return nil
	}
	if k := uint64(n); k > r.granted-r.placed || at+k > r.Size {
		return nil
	}
	return r.direct[r.filled:][:n]
}

// Virtual reports whether r has no memory.
func (r *Ring) Virtual() bool { return r.mem == nil }

// Grant lets the peer place n bytes more.
func (r *Ring) Grant(n uint64) { r.granted += n }

// Move has what is granted from now on placed in mem.
func (r *Ring) Move(mem []byte) {
	r.mem, r.Size = &ringMemory{b: mem, first: r.mem.b, moved: r.granted}, uint64(len(mem))
}

// Full reports whether the peer has used all the space that it was granted.
func (r *Ring) Full() bool { return r.announced == r.granted }

// Announce makes the next n bytes readable.
func (r *Ring) Announce(n uint64) error {
	arrived := r.placed
	if !r.Virtual() {
		arrived = r.granted
	}
	if n > arrived-r.announced {
		return wire.Violation("more bytes announced than were placed")
	}
	r.announced += n
	return nil
}

// Announced returns the number of bytes that have become readable since the start.
func (r *Ring) Announced() uint64 { return r.announced }

// Available returns the number of readable bytes.
func (r *Ring) Available() uint64 { return r.announced - r.read }

// Front returns readable bytes, as many as lie in one piece; it returns none only if there are none
// at all. They stay valid and unchanged until Drop, so they can be used without the lock that
// guards r. Only one goroutine may read at a time.
func (r *Ring) Front() []byte {
	n := r.announced - r.read
	if n == 0 {
		return nil
	}
	var p []byte
	switch {
	case r.Virtual():
		p = r.stored.front()
	case r.read < r.mem.moved:
		first := r.mem.first
		p, n = first[r.read%uint64(len(first)):], min(n, r.mem.moved-r.read)
	default:
		p = r.mem.b[r.read%r.Size:]
	}
	return p[:min(n, uint64(len(p)))]
}

// TakeBlock takes the block with the first readable bytes off the ring. It returns nil if not all
// of the block is readable, or if the ring is memory, which the peer can still write to.
func (r *Ring) TakeBlock() *Block {
	b := r.stored.first()
	if b == nil || uint64(len(b.Bytes())) > r.Available() {
		return nil
	}
	r.stored.pop()
	r.read += uint64(b.w - b.r)
	return b
}

// Drop takes the first n readable bytes off the ring.
func (r *Ring) Drop(n int) {
	if r.Virtual() {
		r.stored.drop(n)
	}
	r.read += uint64(n)
}

// Attach has the bytes that arrive from now on placed in b, if none wait before them. Detach must
// follow.
func (r *Ring) Attach(b []byte) {
	if r.Virtual() && r.stored.last == nil {
		r.direct = b[:min(len(b), math.MaxInt32)]
	}
}

// Detach ends what Attach began, and returns the number of readable bytes in its buffer. Bytes in
// it that are not announced yet move to blocks, so the buffer is no longer touched.
func (r *Ring) Detach() (n int) {
	if r.direct == nil {
		return 0
	}
	n = int(min(uint64(r.filled), r.announced-r.read))
	r.read += uint64(n)
	r.stored.prepend(r.direct[n:r.filled])
	r.direct, r.filled = nil, 0
	return n
}

// Release gives memory back once the connection is closed and nobody reads.
func (r *Ring) Release() {
	r.stored.clear()
	r.read, r.announced, r.granted = r.placed, r.placed, r.placed
}
