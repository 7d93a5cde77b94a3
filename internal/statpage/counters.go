package statpage

import (
	"sync/atomic"
	"time"
)

// Counters of a connection.
const (
	bytesIn      = iota // that have arrived here
	bytesOut            // that were handed to the transport
	messagesIn          // in which they arrived
	messagesOut         // RDMA Writes in which they went
	bytesRead           // that the application has taken
	space               // bytes that the peer has ever given space for
	credits             // messages that may be sent; of a peer that counts them
	ring                // bytes of the ring
	blocked             // nanoseconds for which calls have waited for space
	blockedTimes        // how often
	blockedSince        // Unix nanoseconds, while a call waits
	segment             // bytes of the largest FPDU sent
)

// A Conn is the record of a connection. The methods that count do nothing for nil. None may be
// called once Free was; those for one direction are called by one goroutine at a time.
type Conn struct{ Record }

func (c *Conn) add(i int, n uint64) { c.set(i, c.get(i)+n) }

func (c *Conn) set(i int, n uint64) { store(c.counter(i), n) }

func (c *Conn) get(i int) uint64 { return c.counter(i).Load() }

// Arrived records n bytes of a message that have arrived.
func (c *Conn) Arrived(n int) {
	if c != nil {
		c.add(bytesIn, uint64(n))
		c.add(messagesIn, 1)
	}
}

// Read records n bytes that the application has taken.
func (c *Conn) Read(n int) {
	if c != nil && n > 0 {
		c.add(bytesRead, uint64(n))
	}
}

// Sent records n bytes that go out in as many messages. Numbers below 0 take it back.
func (c *Conn) Sent(n, messages int) {
	if c != nil {
		c.add(bytesOut, uint64(n))
		c.add(messagesOut, uint64(messages))
	}
}

// SetRing records the size of the ring.
func (c *Conn) SetRing(n uint64) {
	if c != nil {
		c.set(ring, n)
	}
}

// SetSegment records the size of the largest FPDU.
func (c *Conn) SetSegment(n int) {
	if c != nil {
		c.set(segment, uint64(max(n, 0)))
	}
}

// Given records that the peer lets us send: left bytes, and messages.
func (c *Conn) Given(left uint64, messages int) {
	if c != nil {
		c.set(space, c.get(bytesOut)+left)
		c.SetCredits(messages)
	}
}

// SetCredits records how many messages may be sent, where they are counted.
func (c *Conn) SetCredits(n int) {
	if c != nil {
		c.set(credits, uint64(max(n, 0)))
	}
}

// Block records that a call waits for the peer to make space, until Unblock.
func (c *Conn) Block(now time.Time) {
	if c != nil {
		c.set(blockedSince, uint64(now.UnixNano()))
	}
}

// Unblock ends what Block began.
func (c *Conn) Unblock(now time.Time) {
	if c == nil {
		return
	}
	since := c.get(blockedSince)
	if n := uint64(now.UnixNano()); since != 0 && n > since {
		c.add(blocked, n-since)
	}
	c.add(blockedTimes, 1)
	c.set(blockedSince, 0)
}

// Flow is what the counters of a connection say.
type Flow struct {
	BytesIn, BytesOut       uint64
	MessagesIn, MessagesOut uint64
	Unread, Ring            uint64 // bytes in the ring, and its size
	Space, Credits          uint64 // that the peer gives at present
	Blocked                 time.Duration
	BlockedTimes            uint64
	BlockedSince            time.Time // zero if nobody waits
	Segment                 uint64
}

// Flow returns what the counters of a connection say. They are not all of the same moment.
func (e *Entry) Flow() Flow {
	c := &e.Counters
	f := Flow{
		BytesIn: c[bytesIn], BytesOut: c[bytesOut], MessagesIn: c[messagesIn], MessagesOut: c[messagesOut],
		Unread: c[bytesIn] - min(c[bytesRead], c[bytesIn]), Ring: c[ring],
		Space: c[space] - min(c[bytesOut], c[space]), Credits: c[credits],
		Blocked: time.Duration(min(c[blocked], 1<<63-1)), BlockedTimes: c[blockedTimes], Segment: c[segment],
	}
	if since := c[blockedSince]; since != 0 {
		f.BlockedSince = time.Unix(0, int64(min(since, 1<<63-1)))
	}
	return f
}

// ListenerCounter is what became of a client.
type ListenerCounter uint8

// The counters of a listener.
const (
	PlainTCP ListenerCounter = iota
	IWARP
	Silent
	Redirected
	Refused
	HandshakeFailed
	Overflowed
	Limited
	numListenerCounters
)

// A Listener is the record of a listener.
type Listener struct{ Record }

// Count returns a counter.
func (l *Listener) Count(i ListenerCounter) *atomic.Uint64 { return l.counter(int(i)) }

// Clients returns the counters of a listener.
func (e *Entry) Clients() (n [numListenerCounters]uint64) {
	copy(n[:], e.Counters[:])
	return n
}

// A Port is the record of a reservation.
type Port struct{ Record }

// Show records what the port is used for, and by how many.
func (p *Port) Show(s State, references int) {
	p.SetState(s, 0)
	p.counter(0).Store(uint64(max(references, 0)))
}

// References returns how many use a reservation.
func (e *Entry) References() uint64 { return e.Counters[0] }

// Numbers of the counters of a process.
const (
	NumPaths   = 6  // see PathOf
	NumReasons = 16 // the last one stands for all above
	NumBuckets = 24 // see Bucket
)

// pathTCP is the path of plain TCP.
const pathTCP = 1

var pathNames = [NumPaths]string{"other", pathTCP: "tcp", "soft", "rnic", "shm"}

// PathOf returns the number under which connections of a transport are counted.
func PathOf(transport string) int {
	for i, name := range pathNames {
		if name != "" && name == transport {
			return i
		}
	}
	return 0
}

// pathWords are the names as a record has them.
var pathWords = func() (words [NumPaths]uint64) {
	for i, name := range pathNames {
		words[i] = wordOf(name)
	}
	return words
}()

// pathOfWord is PathOf for the first word of a name. It returns -1 where there is no name.
func pathOfWord(w uint64) int {
	if w == 0 {
		return -1
	}
	for i := range pathWords {
		if pathWords[i] == w {
			return i
		}
	}
	return 0
}

// PathName is the reverse of PathOf.
func PathName(path int) string { return pathNames[path] }

// Direction tells dials from accepts.
type Direction uint8

// The directions.
const (
	Dialed Direction = iota
	Accepted
	numDirections
)

// A Tally counts for the whole process, since its first connection or listener.
type Tally struct {
	Setups   [numDirections][NumPaths][NumReasons]uint64 // connections by path and Reason
	Failures [numDirections][NumReasons]uint64           // dials and handshakes without a connection
	Times    [numDirections][2][NumBuckets]uint64        // of the set-up, by Bucket; plain TCP, then all others
}

// Each calls f with every number of connections and of failures that is not 0. A failure has no
// path.
func (t *Tally) Each(f func(accepted bool, path string, reason uint8, n uint64)) {
	for d := range t.Setups {
		accepted := Direction(d) == Accepted
		for p := range t.Setups[d] {
			for r, n := range t.Setups[d][p] {
				if n > 0 {
					f(accepted, PathName(p), uint8(r), n)
				}
			}
		}
		for r, n := range t.Failures[d] {
			if n > 0 {
				f(accepted, "", uint8(r), n)
			}
		}
	}
}

const (
	tallySetups   = int(numDirections) * NumPaths * NumReasons
	tallyFailures = int(numDirections) * NumReasons
	tallyTimes    = int(numDirections) * 2 * NumBuckets
	tallyWords    = tallySetups + tallyFailures + tallyTimes
)

// Bucket returns the bucket of a histogram for d: bucket i has what is less than 2^i µs and does
// not belong to one below; the last one has all the rest.
func Bucket(d time.Duration) int {
	us := d.Microseconds()
	i := 0
	for ; us > 0 && i < NumBuckets-1; i++ {
		us >>= 1
	}
	return i
}

// BucketLimit returns the upper limit of a bucket, 0 for the last one.
func BucketLimit(i int) time.Duration {
	if i == NumBuckets-1 {
		return 0
	}
	return time.Microsecond << i
}

type tally [tallyWords]atomic.Uint64

func (t *tally) setUp(d Direction, path int, reason uint8, took time.Duration) {
	t[(int(d)*NumPaths+path)*NumReasons+int(min(reason, NumReasons-1))].Add(1)
	if took > 0 {
		t[tallySetups+tallyFailures+(int(d)*2+kindOf(path))*NumBuckets+Bucket(took)].Add(1)
	}
}

// kindOf is 0 for plain TCP and 1 for all others.
func kindOf(path int) int {
	if path == pathTCP {
		return 0
	}
	return 1
}

func (t *tally) failed(d Direction, reason uint8) {
	t[tallySetups+int(d)*NumReasons+int(min(reason, NumReasons-1))].Add(1)
}

// tallyOf reads the counters by means of load.
func tallyOf(load func(i int) uint64) (t Tally) {
	i := 0
	next := func() uint64 {
		i++
		return load(i - 1)
	}
	for d := range t.Setups {
		for p := range t.Setups[d] {
			for r := range t.Setups[d][p] {
				t.Setups[d][p][r] = next()
			}
		}
	}
	for d := range t.Failures {
		for r := range t.Failures[d] {
			t.Failures[d][r] = next()
		}
	}
	for d := range t.Times {
		for k := range t.Times[d] {
			for b := range t.Times[d][k] {
				t.Times[d][k][b] = next()
			}
		}
	}
	return t
}
