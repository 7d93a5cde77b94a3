package queue

import "github.com/rdmanet/iwarp/transport"

// A Run is a row of receive buffers of one region with consecutive IDs, equal sizes and adjacent
// memory. Users post hundreds of small receives in such rows, so an idle connection costs one run
// instead of a slot for each.
type Run[R comparable] struct {
	ID     uint64 // of the first buffer, as are Mem and Region
	Mem    []byte // the others follow in its capacity
	Region R
	count  int
}

// Receives holds posted receives in order. R is what the transport keeps of their regions.
type Receives[R comparable] struct {
	bare bare     // the oldest, if they have no memory
	len  int32    // of all
	runs []Run[R] // the others
}

// A bare is a run without memory, in little memory.
type bare struct {
	id    uint64 // of the first
	count int32
}

// Len returns how many there are.
func (q *Receives[R]) Len() int { return int(q.len) }

// Push appends wr, whose data lies in r.
func (q *Receives[R]) Push(wr *transport.RecvWR, r R) {
	q.len++
	if n := len(q.runs); n > 0 && q.runs[n-1].extends(wr, r) {
		q.runs[n-1].count++
		return
	}
	q.runs = append(q.runs, Run[R]{ID: wr.ID, Mem: wr.Data, Region: r, count: 1})
}

// PushBare appends n receives that have no memory, with IDs from id on.
func (q *Receives[R]) PushBare(id uint64, n int) {
	if n <= 0 {
		return
	}
	q.len += int32(n)
	if b := &q.bare; len(q.runs) == 0 && (b.count == 0 || id == b.id+uint64(b.count)) {
		if b.count == 0 {
			b.id = id
		}
		b.count += int32(n)
		return
	}
	var none R
	if last := len(q.runs) - 1; last >= 0 {
		if r := &q.runs[last]; r.Region == none && r.Mem == nil && id == r.ID+uint64(r.count) {
			r.count += n
			return
		}
	}
	q.runs = append(q.runs, Run[R]{ID: id, count: n})
}

func (r *Run[R]) extends(wr *transport.RecvWR, in R) bool {
	size := len(r.Mem)
	end := size * r.count
	return in == r.Region && size > 0 && len(wr.Data) == size && wr.ID == r.ID+uint64(r.count) &&
		end < cap(r.Mem) && &r.Mem[:end+1][end] == &wr.Data[0]
}

// Head returns the run of the oldest receive, if there is one.
func (q *Receives[R]) Head() (r Run[R], ok bool) {
	switch {
	case q.len == 0:
		return r, false
	case q.bare.count > 0:
		return Run[R]{ID: q.bare.id}, true
	}
	return q.runs[0], true
}

// Pop removes the oldest receive, which must exist.
func (q *Receives[R]) Pop() {
	q.len--
	if b := &q.bare; b.count > 0 {
		b.id++
		b.count--
		return
	}
	r := &q.runs[0]
	r.count--
	if r.count == 0 {
		q.runs[0] = Run[R]{}
		q.runs = append(q.runs[:0], q.runs[1:]...)
		return
	}
	size := len(r.Mem)
	r.ID++
	r.Mem = r.Mem[size : 2*size]
}
