package rdmanet

import "github.com/rdmanet/iwarp/rdmanet/internal/wire"

// A ring is where the peer places bytes of stream. They count as received once a word has announced
// them, or, with a peer that was told so, once they are placed.
//
// With a transport that places by software the ring is virtual: it has a length, but what is placed
// goes straight to the buffer of the Read that waits, or else to blocks from a pool. Otherwise it
// is memory, which the transport fills on its own.
//
// It is guarded by Conn.mu.
type ring struct {
	size uint64
	mem  []byte // nil if virtual

	wordless bool // what is placed counts as announced

	// Bytes of stream since the start, in falling order. In a memory ring placed is not known.
	granted, placed, announced, read uint64

	stored blockList
	direct []byte // buffer of a waiting Read; bytes from read on are placed there
	filled int    // bytes in it
	fault  error  // what was wrong with a placement
}

// place takes the payload of an RDMA Write off bytes into the ring.
func (r *ring) place(off uint64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	// The stream fills the ring without gaps. Whatever lies beyond what was granted may still be
	// unread.
	if off != r.placed%r.size || uint64(len(p)) > r.granted-r.placed {
		r.fault = wire.Violation("bytes placed outside the space that was granted")
		return r.fault
	}
	r.placed += uint64(len(p))
	if r.wordless {
		r.announced = r.placed
	}
	if r.filled < len(r.direct) { // nothing is stored before it is full
		n := copy(r.direct[r.filled:], p)
		r.filled += n
		p = p[n:]
	}
	r.stored.append(p)
	return nil
}

// virtual reports whether r is no memory.
func (r *ring) virtual() bool { return r.mem == nil }

// grant lets the peer place n bytes more.
func (r *ring) grant(n uint64) { r.granted += n }

// full reports whether the peer has used all the space that it was granted.
func (r *ring) full() bool { return r.announced == r.granted }

// announce makes the next n bytes readable.
func (r *ring) announce(n uint64) error {
	arrived := r.placed
	if r.mem != nil {
		arrived = r.granted
	}
	if n > arrived-r.announced {
		return wire.Violation("more bytes announced than were placed")
	}
	r.announced += n
	return nil
}

// available returns the number of readable bytes.
func (r *ring) available() uint64 { return r.announced - r.read }

// front returns readable bytes, as many as lie in one piece; none means that there are none at all.
// They stay valid, and do not change, until drop, so they can be used without the lock. Only one
// goroutine may read at a time.
func (r *ring) front() []byte {
	n := r.announced - r.read
	if n == 0 {
		return nil
	}
	var p []byte
	if r.mem != nil {
		p = r.mem[r.read%r.size:]
	} else {
		p = r.stored.front()
	}
	return p[:min(n, uint64(len(p)))]
}

// takeBlock takes the block with the first readable bytes off the ring. It returns nil if not all
// of it can be read, or if the ring is memory, which the peer can still write to.
func (r *ring) takeBlock() *block {
	b := r.stored.head
	if b == nil || uint64(b.w-b.r) > r.available() {
		return nil
	}
	r.stored.pop()
	r.read += uint64(b.w - b.r)
	return b
}

// drop takes the first n readable bytes off the ring.
func (r *ring) drop(n int) {
	if r.mem == nil {
		r.stored.drop(n)
	}
	r.read += uint64(n)
}

// attach has bytes that come from now on placed in b, if none wait before them. detach must follow.
func (r *ring) attach(b []byte) {
	if r.mem == nil && r.stored.head == nil {
		r.direct = b
	}
}

// detach ends what attach began, and returns the number of readable bytes in its buffer. Bytes in
// it that are not announced yet move to blocks, so the buffer is not touched any more.
func (r *ring) detach() (n int) {
	if r.direct == nil {
		return 0
	}
	n = int(min(uint64(r.filled), r.announced-r.read))
	r.read += uint64(n)
	r.stored.prepend(r.direct[n:r.filled])
	r.direct, r.filled = nil, 0
	return n
}

// release gives memory back once the connection is closed and nobody reads.
func (r *ring) release() {
	r.stored.clear()
	r.read, r.announced, r.granted = r.placed, r.placed, r.placed
}
