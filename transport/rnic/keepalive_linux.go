//go:build amd64 || arm64

package rnic

import (
	"net"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

const defaultKeepAlive = 15 * time.Second // as package net has it

// SetKeepAliveConfig has an empty Write sent to the peer whenever c.Idle has passed, as rsockets
// does, even where there was traffic: if the peer is gone, the device finds out, and the connection
// ends. An Idle of 0 means 15 s, a negative one leaves the last one as it is. When the device gives
// up is its own business, so c.Interval and c.Count are not used. It returns the error of Err once
// there is one.
func (q *queuePair) SetKeepAliveConfig(c net.KeepAliveConfig) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	q.stopKeepAlive()
	if !c.Enable {
		return nil
	}
	switch {
	case c.Idle > 0:
		q.keepAliveIdle = c.Idle
	case c.Idle == 0 || q.keepAliveIdle == 0:
		q.keepAliveIdle = defaultKeepAlive
	}
	q.keepAlive = time.AfterFunc(q.keepAliveIdle, q.sendKeepAlive)
	return nil
}

// stopKeepAlive ends what SetKeepAliveConfig began. The caller holds mu.
func (q *queuePair) stopKeepAlive() {
	if q.keepAlive != nil {
		q.keepAlive.Stop()
		q.keepAlive = nil
	}
}

func (q *queuePair) sendKeepAlive() {
	if !q.sendEmptyWrite() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.keepAlive != nil && q.err == nil {
		q.keepAlive.Reset(q.keepAliveIdle)
	}
}

// sendEmptyWrite sends an empty Write, unless the connection has ended.
func (q *queuePair) sendEmptyWrite() bool {
	q.sendMu.Lock()
	defer q.sendMu.Unlock()
	if q.sendable() != nil {
		return false
	}
	q.reap() // completions of earlier ones, which nobody waits for
	_ = q.postEmptyWrite()
	return true
}

// nudges are the waits between the empty Writes that an initiator sends to a responder that it has
// heard nothing from. Linux's siw sends its MPA reply before it takes over the events of its
// socket. An FPDU that arrives in between lies there unseen until another one follows, which may be
// never where the peer's turn is next.
var nudges = [...]time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}

func (q *queuePair) nudgeAfter(waits []time.Duration) {
	time.AfterFunc(waits[0], func() {
		q.mu.Lock()
		silent := !q.heard && q.state == transport.StateRTS
		q.mu.Unlock()
		if silent && q.sendEmptyWrite() && len(waits) > 1 {
			q.nudgeAfter(waits[1:])
		}
	})
}
