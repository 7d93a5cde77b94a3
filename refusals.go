package iwarp

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
)

const (
	refusalTTL  = 5 * time.Second // in which a client that was refused comes back
	maxRefusals = 64
)

// refusals holds why a listener has lately refused clients of iWARP, for what it says about the
// plain connections that they make next.
type refusals struct {
	any atomic.Bool // there may be some
	mu  sync.Mutex
	m   map[netip.Addr][]refused
}

type refused struct {
	why OffloadError
	at  time.Time
}

// add records that a client at host was refused for err.
func (r *refusals) add(host netip.Addr, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = make(map[netip.Addr][]refused)
	}
	r.expire(now)
	if n := len(r.m[host]); n < maxRefusals && (n > 0 || len(r.m) < maxRefusals) {
		r.m[host] = append(r.m[host], refused{whyNot(err), now})
		r.any.Store(true)
	}
}

// take returns why a client of the host of c was refused, once for each.
func (r *refusals) take(c *net.TCPConn) (why OffloadError, ok bool) {
	if !r.any.Load() {
		return why, false
	}
	host := netaddr.Of(c.RemoteAddr()).Addr()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(time.Now())
	list := r.m[host]
	if len(list) == 0 {
		return why, false
	}
	if r.m[host] = list[1:]; len(list) == 1 {
		delete(r.m, host)
	}
	r.any.Store(len(r.m) > 0)
	return list[0].why, true
}

// expire drops what is too old. Its caller holds r.mu.
func (r *refusals) expire(now time.Time) {
	for host, list := range r.m {
		for len(list) > 0 && now.Sub(list[0].at) >= refusalTTL {
			list = list[1:]
		}
		if r.m[host] = list; len(list) == 0 {
			delete(r.m, host)
		}
	}
}
