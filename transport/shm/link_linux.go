package shm

import (
	"context"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport/internal/setup"
)

// To make a socket and memory, to pass it and to map it takes several times as long as to ask for
// a connection. So two processes of the same user keep what a connection had, for a moment and in
// small numbers, and the client asks for the next one on the same socket, once both ends have said
// that they are done. Memory never gets to another process in that way.
const (
	// linkTime and linkLonger are how long a client and a server keep a link. A server's time is
	// longer, so that it is the client that ends it, which knows that it does.
	linkTime   = 100 * time.Millisecond
	linkLonger = time.Second
	mostLinks  = 64 // of a Transport's clients, and of a listener
	// linkAge is how old the socket of a link gets before a client looks anew for the listener: there
	// may be one that comes before that which it has met.
	linkAge = time.Second
)

// A link is what a connection has besides its port: a socket, and the memory of both ends.
type link struct {
	sock    *net.UnixConn
	raw     syscall.RawConn
	cred    unix.Ucred // of the peer
	self    user       // that the peer knows this process as
	made    time.Time  // when sock was
	bells   uint32     // that may be unread on sock
	in, out *segment
	wide    bool       // more than the first page of out was used
	last    *departure // of a client's latest connection
}

// A user is what a process runs as.
type user struct{ uid, gid int }

func thisUser() user { return user{os.Geteuid(), os.Getegid()} }

// close ends the link.
func (k *link) close() {
	if k.last != nil {
		k.last.end(false)
	}
	hangUp(k.sock)
	k.drop()
}

// drop gives the memory back. A nil link has none.
func (k *link) drop() {
	if k != nil {
		k.in.close()
		k.out.close()
	}
}

// over reports whether the peer is done with the last connection of the link, and waits for the
// request of the next one.
func (k *link) over() bool {
	if !k.done() {
		return false
	}
	gone, err := peerHungUp(k.raw)
	return !gone && err == nil
}

// done reports whether the peer, a server, is done with the last connection of the link.
func (k *link) done() (yes bool) {
	defer k.survive(debug.SetPanicOnFault(true))
	return k.in.idle.Load() != 0
}

// renew makes the memory, which the peer is done with, that of a new connection.
func (k *link) renew() (ok bool) {
	defer k.survive(debug.SetPanicOnFault(true))
	k.in.renew()
	k.out.renew()
	return true
}

func (s *segment) renew() {
	for _, w := range [...]*atomic.Uint32{s.reader, s.writer, s.end, s.leaves, s.way, s.idle} {
		w.Store(0)
	}
	s.tail.Store(0)
	s.head.Store(0)
}

// survive is that of a queue pair: where the system has no memory for a page the link is of no use.
func (k *link) survive(before bool) {
	debug.SetPanicOnFault(before)
	if r := recover(); r != nil {
		if f, ok := r.(interface{ Addr() uintptr }); !ok || !k.in.has(f.Addr()) && !k.out.has(f.Addr()) {
			panic(r)
		}
	}
}

// mayKeep reports whether what the connection has may serve for another one. The caller holds the
// token and tx.mu, and survives faults.
func (q *queuePair) mayKeep() bool {
	t := &q.tx
	if !q.keeps || !q.kin || t.out == nil || t.trimming || t.ended || q.sleep.dead || q.sleep.died.Load() || q.t.memory.scarce() {
		return false
	}
	if q.home == nil && time.Since(q.made) >= q.t.room.age {
		return false
	}
	switch end := q.in.end.Load(); {
	case end == endNone:
		return true
	case end&0xff == endClosed, end&0xff == endAborted:
		return end&endKeeps != 0
	}
	return false
}

// keep keeps what the connection has had, of which out is the peer's memory.
func (q *queuePair) keep(out *segment, wide bool) {
	k := &link{sock: q.sock, raw: q.raw, cred: q.cred, self: q.self, made: q.made, bells: q.mostBells, in: q.in, out: out, wide: wide, last: q.gone}
	if l := q.home; l != nil {
		l.keep(k)
		return
	}
	q.t.room.put(q.site, &meeting{c: k.sock, link: k})
}

// take makes k what the connection will have. The queue pair is not up yet.
func (q *queuePair) take(k *link) {
	q.sock, q.raw, q.cred, q.self, q.made, q.mostBells, q.kept = k.sock, k.raw, k.cred, k.self, k.made, k.bells, k
}

// takeKept returns the link that the connection is to have, to one caller only: Close may come
// during Connect and Accept.
func (q *queuePair) takeKept() *link {
	q.Mu.Lock()
	defer q.Mu.Unlock()
	k := q.kept
	q.kept = nil
	return k
}

// shed ends all links on which no request has come.
func (l *listener) shed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.links {
		_ = k.sock.SetDeadline(past) // so that hearAgain closes it
	}
}

// keep waits for the next request on a link whose connection has ended.
func (l *listener) keep(k *link) {
	l.mu.Lock()
	full := l.ctx.Err() != nil || len(l.links) >= mostLinks
	var x setup.Exchange
	if !full {
		l.links[k] = struct{}{}
		l.wg.Add(1)
		x = setup.Begin(context.Background(), k.sock, l.t.serves)
	}
	l.mu.Unlock()
	if full {
		k.close()
		return
	}
	go l.hearAgain(k, x)
}

// hearAgain reads a request that comes on a link.
func (l *listener) hearAgain(k *link, x setup.Exchange) {
	defer l.wg.Done()
	g, fd, err := hearNext(k.sock)
	err = x.End(err)
	l.mu.Lock()
	delete(l.links, k)
	l.mu.Unlock()
	if err != nil || fd >= 0 {
		bury(fd)
		k.close()
		return
	}
	l.again(k, g)
}
