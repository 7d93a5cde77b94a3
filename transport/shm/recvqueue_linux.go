package shm

import "github.com/rdmanet/iwarp/transport"

// A recvRun is a row of receive buffers of one region with consecutive IDs, equal sizes and
// adjacent memory. Users post hundreds of small receives in such rows, so an idle connection costs
// one run instead of a slot for each.
type recvRun struct {
	id     uint64
	mem    []byte // of the first buffer; the others follow in its capacity
	region *region
	count  int
}

// recvQueue holds posted receives in order.
type recvQueue struct {
	runs []recvRun
	len  int
}

func (q *recvQueue) push(wr *transport.RecvWR, r *region) {
	q.len++
	if n := len(q.runs); n > 0 && q.runs[n-1].extends(wr, r) {
		q.runs[n-1].count++
		return
	}
	q.runs = append(q.runs, recvRun{id: wr.ID, mem: wr.Data, region: r, count: 1})
}

func (r *recvRun) extends(wr *transport.RecvWR, in *region) bool {
	size := len(r.mem)
	end := size * r.count
	return in == r.region && size > 0 && len(wr.Data) == size && wr.ID == r.id+uint64(r.count) &&
		end < cap(r.mem) && &r.mem[:end+1][end] == &wr.Data[0]
}

// head returns the run of the oldest receive, or nil if there is none.
func (q *recvQueue) head() *recvRun {
	if q.len == 0 {
		return nil
	}
	return &q.runs[0]
}

func (q *recvQueue) pop() {
	q.len--
	r := &q.runs[0]
	r.count--
	if r.count == 0 {
		q.runs[0] = recvRun{}
		q.runs = append(q.runs[:0], q.runs[1:]...)
		return
	}
	size := len(r.mem)
	r.id++
	r.mem = r.mem[size : 2*size]
}
