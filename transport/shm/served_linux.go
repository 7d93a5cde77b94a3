package shm

import (
	"errors"
	"net/netip"
	"sync"
)

// A client whose link is not kept gives its port up when it closes its end. Until the program at
// the server has closed the other one, no further connection may have the same addresses and ports.

// A four is what no two connections of a network namespace have in common.
type four struct {
	space         uint64
	local, remote netip.AddrPort
}

// served are the connections that listeners of this process have accepted.
var served fours

type fours struct {
	mu sync.Mutex
	m  map[four]*queuePair
}

var (
	errServed = errors.New("there is a connection from the client's address and port already")
	// whyServed, with the answer again, says that another port will do.
	whyServed = []byte("port in use")
)

// claim reports whether q is the only one with its four. If so that lasts until release.
func (f *fours) claim(q *queuePair) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = make(map[four]*queuePair)
	}
	k := q.four()
	if f.m[k] != nil {
		return false
	}
	f.m[k] = q
	return true
}

// release does nothing for those that have not claimed anything.
func (f *fours) release(q *queuePair) {
	if q.home == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := q.four(); f.m[k] == q {
		delete(f.m, k)
	}
}

// four is that of a server.
func (q *queuePair) four() four { return four{q.home.space, q.local, q.remote} }
