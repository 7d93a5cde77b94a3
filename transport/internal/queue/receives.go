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
	runs  []Run[R]
	first [1]Run[R] // where runs begins
	len   int
}

// Len returns how many there are.
func (q *Receives[R]) Len() int { return q.len }

// Push appends wr, whose data lies in r.
func (q *Receives[R]) Push(wr *transport.RecvWR, r R) {
	q.len++
	if n := len(q.runs); n > 0 && q.runs[n-1].extends(wr, r) {
		q.runs[n-1].count++
		return
	}
	q.append(Run[R]{ID: wr.ID, Mem: wr.Data, Region: r, count: 1})
}

// PushBare appends n receives that have no memory, with IDs from id on.
func (q *Receives[R]) PushBare(id uint64, n int) {
	if n <= 0 {
		return
	}
	q.len += n
	var none R
	if last := len(q.runs) - 1; last >= 0 {
		if r := &q.runs[last]; r.Region == none && r.Mem == nil && id == r.ID+uint64(r.count) {
			r.count += n
			return
		}
	}
	q.append(Run[R]{ID: id, count: n})
}

func (q *Receives[R]) append(r Run[R]) {
	if q.runs == nil {
		q.runs = q.first[:0]
	}
	q.runs = append(q.runs, r)
}

func (r *Run[R]) extends(wr *transport.RecvWR, in R) bool {
	size := len(r.Mem)
	end := size * r.count
	return in == r.Region && size > 0 && len(wr.Data) == size && wr.ID == r.ID+uint64(r.count) &&
		end < cap(r.Mem) && &r.Mem[:end+1][end] == &wr.Data[0]
}

// Head returns the run of the oldest receive, or nil if there is none. It is valid until the next
// Push or Pop.
func (q *Receives[R]) Head() *Run[R] {
	if q.len == 0 {
		return nil
	}
	return &q.runs[0]
}

// Pop removes the oldest receive, which must exist.
func (q *Receives[R]) Pop() {
	q.len--
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
