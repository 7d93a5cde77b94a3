//go:build amd64 || arm64

package rnic

import (
	"time"

	"github.com/ebitengine/purego"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

const (
	// drainLimit bounds how long after Close the device goes on sending what was posted.
	drainLimit = 10 * time.Second
	// farewellLimit is how long the peer has to close first.
	farewellLimit = time.Second
)

// Close implements transport.QueuePair. What was posted is still sent. An iWARP connection is then
// left to the peer to close for a moment: with siw the end of the TCP stream may overtake what came
// before it, and whoever closes with something unread resets.
func (q *queuePair) Close() error { return q.close(true) }

// CloseLast is Close for an end that knows that the peer needs nothing any more, so that there is
// nothing to wait for once what was posted is sent.
func (q *queuePair) CloseLast() error { return q.close(false) }

func (q *queuePair) close(farewell bool) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return transport.ErrClosed
	}
	connected, inOrder := q.connected, q.connected && q.err == nil
	state := transport.StateError
	if inOrder {
		state = transport.StateClosing
	}
	q.shut(state)
	q.mu.Unlock()
	switch {
	case inOrder:
		go q.seeOff(farewell && q.dev.IWARP)
	case connected:
		q.teardown()
	default:
		go q.teardown() // which waits for calls for the ID, like that of rdma_connect
	}
	return nil
}

// shut records Close or Abort. The caller holds mu.
func (q *queuePair) shut(state transport.State) {
	q.closed = true
	close(q.stop)
	q.noteEnd(state, transport.ErrClosed)
	q.stopKeepAlive()
	q.rouse()
}

// Abort implements transport.QueuePair.
func (q *queuePair) Abort() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return transport.ErrClosed
	}
	connected := q.connected
	q.shut(transport.StateError)
	q.mu.Unlock()
	if connected {
		q.teardown()
	} else {
		go q.teardown()
	}
	return nil
}

// discard is Abort for a queue pair that nobody has used, which has no call to wait for.
func (q *queuePair) discard() {
	q.mu.Lock()
	closed := q.closed
	if !closed {
		q.shut(transport.StateError)
	}
	q.mu.Unlock()
	if !closed {
		q.teardown()
	}
}

// seeOff ends the connection after what was posted.
func (q *queuePair) seeOff(farewell bool) {
	q.markEnd()
	if q.waitFor(&q.leaving, time.Now().Add(drainLimit)) == nil && farewell {
		q.awaitPeer(time.Now().Add(farewellLimit))
	}
	q.disconnect()
	q.teardown()
}

// markEnd is mark for a queue pair that is closed.
func (q *queuePair) markEnd() {
	q.sendMu.Lock()
	defer q.sendMu.Unlock()
	q.mu.Lock()
	usable := q.remains.usable() && !q.peerGone
	q.mu.Unlock()
	if usable && q.sq.outstanding() > 0 && q.sq.marked.Load() != q.sq.head.Load() {
		_ = q.postEmptyWrite()
	}
}

// sentAll reports whether there is no more to be sent, or nobody to send it to. What arrives is
// discarded.
func (q *queuePair) sentAll() (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.reapSome() > 0 {
		q.rouse()
	}
	return q.sq.outstanding() == 0 || q.peerGone || !q.remains.usable(), nil
}

// awaitPeer waits until the peer has ended the connection.
func (q *queuePair) awaitPeer(deadline time.Time) {
	c := condition{q: q, holds: func() (bool, error) {
		q.mu.Lock()
		defer q.mu.Unlock()
		for q.reapSome() > 0 {
			q.rouse()
		}
		return q.peerGone || !q.remains.usable(), nil
	}}
	_ = q.waitFor(&c, deadline)
}

// disconnect ends the connection with the peer.
func (q *queuePair) disconnect() {
	q.sendMu.Lock()
	defer q.sendMu.Unlock()
	q.mu.Lock()
	usable := q.remains.usable()
	q.mu.Unlock()
	if usable {
		_ = q.lib.call("rdma_disconnect", q.lib.rdmaDisconnect, q.id.ptr)
	}
}

// teardown takes everything back from the device. It waits for calls that are in the device, and
// until that is done.
func (q *queuePair) teardown() {
	q.end.Do(func() {
		q.mu.Lock()
		q.noteEnd(transport.StateError, transport.ErrClosed) // so that nobody comes to hold the ID any more
		q.mu.Unlock()
		q.busy.Wait()
		q.sendMu.Lock()
		q.recvMu.Lock()
		q.mu.Lock()
		q.remains = remainsFalling
		q.stopKeepAlive()
		if q.patience != nil {
			q.patience.Stop()
		}
		q.rouse()
		q.mu.Unlock()
		q.recvMu.Unlock()
		q.sendMu.Unlock()
		q.destroyObjects()
		q.id.destroy()
		q.mu.Lock()
		q.remains = remainsNone
		q.finish()
		if q.state == transport.StateClosing {
			q.state = transport.StateError
		}
		q.rouse()
		last := q.onGone
		q.onGone = nil
		q.mu.Unlock()
		for _, f := range last {
			f(false)
		}
	})
}

// destroyObjects gives back what create has made, all or the part that came about.
func (q *queuePair) destroyObjects() {
	w := q.id.watch()
	w.remove(q.qp)
	w.remove(q.cq)
	if q.qp != 0 {
		q.id.ch.taking.Lock()
		_ = q.lib.call("rdma_destroy_qp", q.lib.rdmaDestroyQP, q.id.ptr)
		q.id.ch.taking.Unlock()
	}
	q.dropRegions()
	if q.cq != 0 {
		if q.events > 0 {
			purego.SyscallN(q.lib.ibvAckCQEvents, q.cq, q.events)
		}
		_ = verb("ibv_destroy_cq", q.lib.ibvDestroyCQ, q.cq)
	}
	if q.sleeper.f != nil {
		at[abi.CompChannel](q.channel).Fd = -1
		_ = q.sleeper.f.Close()
	}
	if q.channel != 0 {
		_ = verb("ibv_destroy_comp_channel", q.lib.ibvDestroyCompChannel, q.channel)
	}
	if q.pd != 0 {
		_ = verb("ibv_dealloc_pd", q.lib.ibvDeallocPD, q.pd)
	}
}

// OnGone implements transport.Leaver.
func (q *queuePair) OnGone(f func(both bool)) {
	q.mu.Lock()
	gone := q.remains == remainsNone
	if !gone {
		q.onGone = append(q.onGone, f)
	}
	q.mu.Unlock()
	if gone {
		f(false)
	}
}

// awaitSends waits until no request that is on the send queue needs r.
func (q *queuePair) awaitSends(r *region) {
	q.sendMu.Lock()
	last := min(r.last, q.sq.head.Load()) // the device may have refused the last ones
	q.sendMu.Unlock()
	c := condition{q: q, holds: func() (bool, error) {
		q.mu.Lock()
		defer q.mu.Unlock()
		for q.sq.tail.Load() < last && q.reapSome() > 0 {
			q.rouse()
		}
		return q.sq.tail.Load() >= last || q.err != nil, nil
	}}
	if ok, _ := c.holds(); ok {
		return
	}
	if q.mark() == nil {
		_ = q.waitFor(&c, time.Now().Add(drainLimit))
	}
}
