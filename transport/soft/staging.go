package soft

import (
	"sync/atomic"

	"github.com/rdmanet/iwarp/transport/internal/pool"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

// stagingSizes are the sizes of receive staging, from that of a new connection to that of a busy
// one.
var stagingSizes = [...]int{pool.Small, pool.Mid, pool.Large, pool.Huge}

// staging is where bytes of the stream wait until their FPDU is complete. It grows when reads of
// the socket fill it, so that a peer that has sent little takes little.
type staging struct {
	buf  *[]byte // from the pool; nil while nothing is there
	r, w int     // bytes in buf not looked at yet

	short int32 // bytes that the next read of the socket is limited to; 0 means that it is not
	size  uint8 // index of stagingSizes
	large bool  // it is counted in largeParked
	looks bool  // a read that finds nothing may look for it: see Config.Poll
}

// largeParked counts the connections of the process that keep staging larger than what is in it
// while they wait for the rest of an FPDU, and mostLargeParked is how many may. This saves them two
// copies.
var largeParked, mostLargeParked atomic.Int32

func init() { mostLargeParked.Store(64) }

// put puts b into empty staging.
func (s *staging) put(b []byte) {
	s.buf, s.r = pool.Get(len(b)), 0
	s.w = copy(*s.buf, b)
}

// release gives staging back if it is empty.
func (s *staging) release() {
	if s.buf != nil && s.r == s.w {
		pool.Put(s.buf)
		s.buf, s.r, s.w = nil, 0, 0
	}
}

// park makes staging small before a time in which possibly nobody reads: the beginning of an FPDU
// may be all that ever comes of it. unpark must follow.
func (s *staging) park() {
	s.release()
	if s.buf == nil {
		return
	}
	if n := s.w - s.r; pool.SizeFor(n) < len(*s.buf) && !s.mayStayLarge() {
		s.move(n)
	}
}

func (s *staging) mayStayLarge() bool {
	if !s.large {
		s.large = largeParked.Add(1) <= mostLargeParked.Load()
		if !s.large {
			largeParked.Add(-1)
		}
	}
	return s.large
}

// unpark is called when the wait is over.
func (s *staging) unpark() {
	if s.large {
		s.large = false
		largeParked.Add(-1)
	}
}

// move moves what is in staging to another buffer, of at least n bytes.
func (s *staging) move(n int) {
	b := pool.Get(n)
	n = copy(*b, (*s.buf)[s.r:s.w])
	pool.Put(s.buf)
	s.buf, s.r, s.w = b, 0, n
}

// space returns where in staging to read to.
func (s *staging) space() []byte {
	s.unpark()
	want := stagingSizes[s.size]
	switch {
	case s.buf == nil:
		s.buf, s.r, s.w = pool.Get(want), 0, 0
	case len(*s.buf) < want:
		s.move(want)
	case len(*s.buf)-s.r < mpa.MaxFPDULen || s.w == len(*s.buf):
		s.w = copy(*s.buf, (*s.buf)[s.r:s.w])
		s.r = 0
	}
	if s.w == len(*s.buf) { // the FPDU is larger
		s.grow()
		s.move(stagingSizes[s.size])
	}
	return (*s.buf)[s.w:]
}

// shortSpace returns where in staging to read to if that is to be n bytes at most.
func (s *staging) shortSpace(n int) []byte {
	switch {
	case s.buf == nil:
		s.buf = pool.Get(n)
	case s.r == s.w:
		s.r, s.w = 0, 0
	case len(*s.buf)-s.w < n:
		s.move(s.w - s.r + n)
	}
	return (*s.buf)[s.w:min(s.w+n, len(*s.buf))]
}

// nextSpace returns where in staging to read to next.
func (s *staging) nextSpace() []byte {
	if s.short > 0 {
		return s.shortSpace(int(s.short))
	}
	return s.space()
}

// bytes returns what is in staging.
func (s *staging) bytes() []byte {
	if s.buf == nil {
		return nil
	}
	return (*s.buf)[s.r:s.w]
}

func (s *staging) grow() { s.size = min(s.size+1, uint8(len(stagingSizes)-1)) }

// noteRead adapts the size of staging to a read of n bytes.
func (s *staging) noteRead(n int) {
	if n == len(*s.buf)-s.w {
		s.grow()
	}
}

// next returns the first FPDU in staging if it is complete.
func (s *staging) next() []byte {
	b := s.bytes()
	if n, ok := mpa.Peek(b); ok && n <= len(b) {
		return b[:n]
	}
	return nil
}
