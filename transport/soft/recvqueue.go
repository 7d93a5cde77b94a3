package soft

import "github.com/rdmanet/iwarp/transport"

// A recvRun is a row of receive buffers with consecutive IDs, equal sizes and adjacent memory. Users post
// hundreds of small receives in such rows, so an idle connection costs one run instead of a slot for each.
type recvRun struct {
	id    uint64
	mem   []byte // of the first buffer; the others follow in its capacity
	count int
}

// recvQueue holds posted receives in order.
type recvQueue struct {
	runs []recvRun
	len  int
}

func (q *recvQueue) push(wr *transport.RecvWR) {
	q.len++
	if n := len(q.runs); n > 0 && q.runs[n-1].extends(wr) {
		q.runs[n-1].count++
		return
	}
	q.runs = append(q.runs, recvRun{id: wr.ID, mem: wr.Data, count: 1})
}

func (r *recvRun) extends(wr *transport.RecvWR) bool {
	size := len(r.mem)
	end := size * r.count
	return size > 0 && len(wr.Data) == size && wr.ID == r.id+uint64(r.count) &&
		end < cap(r.mem) && &r.mem[:end+1][end] == &wr.Data[0]
}

// head returns the oldest receive without taking it.
func (q *recvQueue) head() (id uint64, buf []byte, ok bool) {
	if q.len == 0 {
		return 0, nil, false
	}
	return q.runs[0].id, q.runs[0].mem, true
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
