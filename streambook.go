package iwarp

import (
	"sync"
	"weak"

	"github.com/rdmanet/iwarp/rdmanet"
)

// streams remembers the Info of iWARP connections, as paths does for plain TCP, for less: most have
// the same, and what is left of those that are garbage is dropped when the book has doubled.
var streams streamBook

type streamBook struct {
	mu     sync.Mutex
	m      map[weak.Pointer[rdmanet.Conn]]*Info
	swept  int   // how many there were after the last sweep
	latest *Info // that was shared
}

// minSweep is the size of a book that is worth a sweep.
const minSweep = 1024

// share returns a copy of info, which others may have as well.
func (b *streamBook) share(info *Info) *Info {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.latest == nil || !info.same(b.latest) {
		own := *info
		b.latest = &own
	}
	return b.latest
}

func (b *streamBook) add(c *rdmanet.Conn, info *Info) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = make(map[weak.Pointer[rdmanet.Conn]]*Info)
	}
	if b.m[weak.Make(c)] = info; len(b.m) >= max(minSweep, 2*b.swept) {
		b.sweep()
	}
}

// same reports whether i says the same as o, for connections that are not plain TCP. It may miss
// that.
func (i *Info) same(o *Info) bool {
	return i.Err == nil && o.Err == nil && i.Ignored == nil && o.Ignored == nil && i.Transport == o.Transport && i.Device == o.Device &&
		i.Offloaded == o.Offloaded && i.Reason == o.Reason && i.RedirectPort == o.RedirectPort
}

// sweep drops the connections that are garbage, and returns the others. Its caller holds mu.
func (b *streamBook) sweep() map[*rdmanet.Conn]*Info {
	live := make(map[*rdmanet.Conn]*Info, len(b.m)/2)
	for p, info := range b.m {
		if c := p.Value(); c != nil {
			live[c] = info
		}
	}
	// A new map, as one never gets smaller.
	b.m, b.swept = make(map[weak.Pointer[rdmanet.Conn]]*Info, len(live)), len(live)
	for c, info := range live {
		b.m[weak.Make(c)] = info
	}
	return live
}

// find returns the Info of c, which may be the zero Info.
func (b *streamBook) find(c *rdmanet.Conn) (info Info) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known := b.m[weak.Make(c)]; known != nil {
		info = *known
	}
	return info
}

// all returns those that are not garbage.
func (b *streamBook) all() map[*rdmanet.Conn]*Info {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sweep()
}
