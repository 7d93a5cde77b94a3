package statpage

import (
	"sync"
	"sync/atomic"
	"time"
)

// Totals of connections, by path.
const (
	totalBytesIn = iota
	totalBytesOut
	totalMessagesIn
	totalMessagesOut
	totalBlocked // nanoseconds
	totalBlockedTimes
	totalFailed
	totalTermSent
	totalTermReceived
	numTotals
)

// Totals are sums over all connections and listeners of the process, with those that are gone. None
// of them ever falls.
type Totals struct {
	conns   [NumPaths][numTotals]uint64
	Clients [numListenerCounters]uint64
	Took    [numDirections][2]time.Duration // by all set-ups that Tally.Times counts
}

// ConnTotals are those of the connections of one path.
type ConnTotals struct {
	BytesIn, BytesOut                  uint64
	MessagesIn, MessagesOut            uint64
	Blocked                            time.Duration
	BlockedTimes                       uint64
	Failed                             uint64
	TerminatesSent, TerminatesReceived uint64
}

// Conns returns the totals of a path. The kernel counts those of plain TCP.
func (t *Totals) Conns(path int) ConnTotals {
	c := &t.conns[path]
	return ConnTotals{
		BytesIn: c[totalBytesIn], BytesOut: c[totalBytesOut], MessagesIn: c[totalMessagesIn], MessagesOut: c[totalMessagesOut],
		Blocked: time.Duration(min(c[totalBlocked], 1<<63-1)), BlockedTimes: c[totalBlockedTimes],
		Failed: c[totalFailed], TerminatesSent: c[totalTermSent], TerminatesReceived: c[totalTermReceived],
	}
}

// pathOf is the path of a connection. Until its transport is known the device tells, in software.
func pathOf(transport, device string) int {
	if transport != "" {
		return PathOf(transport)
	}
	return PathOf(device)
}

// addConn adds a connection with those flags.
func (t *Totals) addConn(path int, flags uint16, c *[numCounters]uint64) {
	one := func(flag uint16) uint64 {
		if flags&flag != 0 {
			return 1
		}
		return 0
	}
	for i, n := range [numTotals]uint64{
		c[bytesIn], c[bytesOut], c[messagesIn], c[messagesOut], c[blocked], c[blockedTimes],
		one(FlagFailed), one(FlagTermSent), one(FlagTermReceived),
	} {
		t.conns[path][i] += n
	}
}

func (t *Totals) addListener(c *[numCounters]uint64) {
	for i := range t.Clients {
		t.Clients[i] += c[i]
	}
}

// raise makes each number at least what it is in o.
func (t *Totals) raise(o *Totals) {
	for p := range t.conns {
		for i := range t.conns[p] {
			t.conns[p][i] = max(t.conns[p][i], o.conns[p][i])
		}
	}
	for i := range t.Clients {
		t.Clients[i] = max(t.Clients[i], o.Clients[i])
	}
}

// gone has what records counted that are free, and for how long set-ups took.
type gone struct {
	mu     sync.Mutex
	totals Totals
	told   Totals // by Survey; its readers would take a number that falls for a new process
	took   [numDirections][2]atomic.Int64
}

// keep adds what a record has counted that is free, before others get it.
func (g *gone) keep(k Kind, r *Record) {
	var c [numCounters]uint64
	for i := range c {
		c[i] = r.words[wordCounters+i].Load()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch k {
	case KindConn:
		path := pathOfWord(r.words[wordTransport].Load())
		if path < 0 && r.words[wordDevice+1].Load() == 0 {
			path = pathOfWord(r.words[wordDevice].Load())
		}
		g.totals.addConn(max(path, 0), uint16(r.words[wordTraits].Load()), &c)
	case KindListener:
		g.totals.addListener(&c)
	}
}

// Survey returns what the records of this process say, and its totals. A connection that is closed
// meanwhile may be missing in both, until the next call.
func Survey() ([]Entry, Totals) {
	g := &own.gone
	g.mu.Lock()
	t := g.totals // before the records, so that none counts twice
	g.mu.Unlock()
	list := Entries()
	for i := range list {
		switch e := &list[i]; e.Kind {
		case KindConn:
			t.addConn(pathOf(e.Transport, e.Device), e.Flags, &e.Counters)
		case KindListener:
			t.addListener(&e.Counters)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	t.raise(&g.told)
	g.told = t
	for d := range t.Took {
		for k := range t.Took[d] {
			t.Took[d][k] = time.Duration(g.took[d][k].Load())
		}
	}
	return list, t
}
