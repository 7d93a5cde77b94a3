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
	// The oldest, if they have no memory: the ID of the first, and how many there are.
	bareID uint64
	bare   int32

	len  int32     // of all
	runs *[]Run[R] // the others; nil while there never were any
}

// rest returns the runs.
func (q *Receives[R]) rest() []Run[R] {
	if q.runs == nil {
		return nil
	}
	return *q.runs
}

// add appends a run.
func (q *Receives[R]) add(r Run[R]) {
	if q.runs == nil {
		q.runs = new([]Run[R])
	}
	*q.runs = append(*q.runs, r)
}

// Len returns how many there are.
func (q *Receives[R]) Len() int { return int(q.len) }

// Push appends wr, whose data lies in r.
func (q *Receives[R]) Push(wr *transport.RecvWR, r R) {
	q.len++
	runs := q.rest()
	if n := len(runs); n > 0 && runs[n-1].extends(wr, r) {
		runs[n-1].count++
		return
	}
	q.add(Run[R]{ID: wr.ID, Mem: wr.Data, Region: r, count: 1})
}

// PushBare appends n receives that have no memory, with IDs from id on.
func (q *Receives[R]) PushBare(id uint64, n int) {
	if n <= 0 {
		return
	}
	q.len += int32(n)
	runs := q.rest()
	if len(runs) == 0 && (q.bare == 0 || id == q.bareID+uint64(q.bare)) {
		if q.bare == 0 {
			q.bareID = id
		}
		q.bare += int32(n)
		return
	}
	var none R
	if last := len(runs) - 1; last >= 0 {
		if r := &runs[last]; r.Region == none && r.Mem == nil && id == r.ID+uint64(r.count) {
			r.count += n
			return
		}
	}
	q.add(Run[R]{ID: id, count: n})
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
	case q.bare > 0:
		return Run[R]{ID: q.bareID}, true
	}
	return (*q.runs)[0], true
}

// Pop removes the oldest receive, which must exist.
func (q *Receives[R]) Pop() {
	q.len--
	if q.bare > 0 {
		q.bareID++
		q.bare--
		return
	}
	runs := *q.runs
	r := &runs[0]
	r.count--
	if r.count == 0 {
		runs[0] = Run[R]{}
		*q.runs = append(runs[:0], runs[1:]...)
		return
	}
	size := len(r.Mem)
	r.ID++
	r.Mem = r.Mem[size : 2*size]
}
