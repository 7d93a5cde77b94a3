package shm

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

const (
	// partingPatience is how long Close goes on in the background while the peer takes nothing.
	partingPatience = 30 * time.Second
	partingLook     = time.Second
)

// Close implements transport.QueuePair. What was posted is in the peer's memory when it returns,
// unless there is no room, or pages of that memory are being given back and that takes long; then a
// goroutine goes on, for as long as the peer takes something.
func (q *queuePair) Close() error { return q.shut(false) }

// Abort implements transport.QueuePair.
func (q *queuePair) Abort() error { return q.shut(true) }

func (q *queuePair) shut(abort bool) error {
	was, err := q.Shut(abort)
	if err != nil {
		return err
	}
	end := uint32(endAborted)
	if was.InOrder {
		end = endClosed
	}
	if !was.Connected {
		served.release(q)
		hangUp(q.sock)
		q.takeKept().drop()
		q.Regions.Clear()
		q.over()
		q.gone.end(false)
		return nil
	}
	q.kick()
	q.Crew.Await(&q.Crew.Token, nil) // kept, so that nobody drives any more
	left := false
	if was.InOrder {
		q.awaitTrim()
		q.tx.mu.Lock()
		q.dropReads()
		q.flush()
		q.tx.sq.KeepAll()
		if left = q.tx.pending.Load(); left {
			q.tellLeaves()
		}
		q.tx.mu.Unlock()
	}
	q.Regions.Clear()
	if left {
		go q.part()
	} else {
		q.finish(end)
	}
	return nil
}

// dropReads gives up RDMA Reads in both directions: after Close there is no memory for their data.
// The caller holds tx.mu.
func (q *queuePair) dropReads() {
	t := &q.tx
	t.responses.Clear()
	t.reads.Clear()
	t.sq.DropReads()
}

// tellLeaves tells a peer that only writes that it does so in vain. It has to look at what comes,
// or what is left is never sent. The caller holds tx.mu.
func (q *queuePair) tellLeaves() {
	if q.tx.out == nil {
		return
	}
	defer q.survive(debug.SetPanicOnFault(true))
	q.tx.out.leaves.Store(1)
}

// part sends what is left, and discards what comes, so that the peer makes progress.
func (q *queuePair) part() {
	end := uint32(endAborted)
	for quiet := time.Now(); time.Since(quiet) < partingPatience; {
		q.tx.mu.Lock()
		before := q.tx.pos
		q.flush()
		left, moved, err := q.tx.pending.Load(), q.tx.pos != before, q.tx.err
		q.tx.mu.Unlock()
		if err != nil {
			break
		}
		if !left {
			end = endClosed
			break
		}
		if moved {
			quiet = time.Now()
		}
		if q.partingOver(moved) {
			break
		}
	}
	q.finish(end)
}

// partingOver discards what has come, and sleeps for a while unless there was progress. It reports
// whether the peer has ended as well, or breaks the rules.
func (q *queuePair) partingOver(moved bool) bool {
	defer q.survive(debug.SetPanicOnFault(true))
	tail := q.in.tail.Load()
	if tail%headerLen != 0 || q.in.end.Load() != endNone {
		return true
	}
	q.rx.pos = tail
	q.giveRoom()
	if moved {
		return false
	}
	q.sleep.until(&q.parting, 0, time.Now().Add(partingLook))
	return q.sleep.dead
}

// finish ends the connection. The caller holds the token for good.
func (q *queuePair) finish(end uint32) {
	watch.remove(q)
	served.release(q) // before the client knows
	q.tx.mu.Lock()
	keeps := q.tellLast(end)
	out, wide := q.tx.out, q.tx.wide
	if q.tx.trimming { // which closes it
		out = nil
	}
	q.tx.out = nil
	q.stopSending(transport.ErrClosed)
	q.tx.mu.Unlock()
	if keeps {
		trims.remove(q)
		q.sleep.awaitKicks() // the socket is that of the next connection then
		q.keep(out, wide)
	} else {
		hangUp(q.sock) // which wakes the peer
		trims.remove(q)
		out.close()
		q.in.close()
	}
	q.over()
	if !keeps || q.home != nil { // otherwise the link knows when
		q.gone.end(keeps)
	}
}

// tellLast tells the peer that this end is done. It reports whether the two ends keep their link.
// The caller holds the token and tx.mu.
func (q *queuePair) tellLast(end uint32) (keeps bool) {
	defer q.survive(debug.SetPanicOnFault(true))
	if !q.mayKeep() {
		q.tellEnd(end, true)
		return false
	}
	q.tellEnd(end|endKeeps, false)
	if q.home != nil {
		q.tx.out.idle.Store(1) // from here on the memory is the client's
	}
	return true
}

// tellEnd tells the peer that nothing more comes, unless that was done before. The end of the
// socket, if it is near, wakes a peer that sleeps in the poller. The caller holds tx.mu.
func (q *queuePair) tellEnd(end uint32, hangsUp bool) {
	if q.tx.ended || q.tx.out == nil {
		return
	}
	defer q.survive(debug.SetPanicOnFault(true))
	q.tx.ended = true
	q.tx.out.end.Store(end)
	if !hangsUp || q.tx.out.reader.Load() == dozing {
		q.rouse()
	}
}

// over is called when nothing is left of the connection.
func (q *queuePair) over() {
	q.Mu.Lock()
	defer q.Mu.Unlock()
	q.Over()
}

// OnGone implements transport.Leaver.
func (q *queuePair) OnGone(f func(both bool)) { q.gone.add(f) }

// CloseLast implements transport.LastCloser. It leaves all to Close: until the program has called
// that at both ends, both show the addresses of the connection, and no other may have them.
func (q *queuePair) CloseLast() error { return nil }

// Forgo implements transport.Forgoer.
func (q *queuePair) Forgo() bool {
	return q.t.room.closeIf(func(m *meeting) bool { return m.link != nil && m.link.last == q.gone && m.link.over() })
}

// A departure is the end of a connection, and who is to know of it.
type departure struct {
	mu   sync.Mutex
	is   bool
	both bool
	tell []func(both bool)
}

func (d *departure) add(f func(both bool)) {
	d.mu.Lock()
	is, both := d.is, d.both
	if !is {
		d.tell = append(d.tell, f)
	}
	d.mu.Unlock()
	if is {
		f(both)
	}
}

// end tells of the end, once, and whether it is that of both ends.
func (d *departure) end(both bool) {
	d.mu.Lock()
	tell := d.tell
	if !d.is {
		d.is, d.both, d.tell = true, both, nil
	}
	d.mu.Unlock()
	for _, f := range tell {
		f(both)
	}
}
