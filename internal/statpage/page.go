package statpage

import (
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	magic   = "IWRPSTAT" // as a number in the byte order of the host, so that another one does not match
	version = 1

	headerSize  = 4096
	headerWords = headerSize / 8
	// chunkRecords is how many records come at once.
	chunkRecords = 256
	maxRecords   = 1 << (16 + 4*(^uint(0)>>63)) // 2^20 where addresses have 64 bits
)

// Words of a header.
const (
	headMagic    = iota
	headVersion  // version | size of the header<<32
	headRecord   // size of a record
	headCapacity // records there are, with the free ones
	headPID      // as the process sees itself
	headSince    // Unix nanoseconds
	headNetns    // inode of the network namespace
	headLost     // what found no room
	headTally    = 16
)

type header struct {
	words [headTally]atomic.Uint64
	tally tally
	_     [headerWords - headTally - tallyWords]uint64
}

var _ [headerSize]byte = [unsafe.Sizeof(header{})]byte{}

// A chunk is a row of records.
type chunk = [chunkRecords]Record

// page is where a process keeps its records.
type page struct {
	file   *file // nil if only this process can read it
	header *header
	err    error // why there is no file

	mu     sync.Mutex
	chunks []*chunk
	vacant []uint32 // records that are free

	gone gone
}

// offEnv is the environment variable that keeps the page from others.
const offEnv = "IWARP_STATS"

// own is there from the start, not from the first connection on, so that a process that counts its
// descriptors never finds one more.
var own = newPage()

func newPage() *page {
	p := &page{}
	switch strings.ToLower(strings.TrimSpace(os.Getenv(offEnv))) {
	case "off", "0", "no", "false":
		p.err = errOff
	default:
		p.file, p.err = create()
	}
	if p.file == nil {
		p.header = new(header)
	} else {
		p.header = (*header)(unsafe.Pointer(&p.file.memory[0]))
	}
	h := &p.header.words
	h[headVersion].Store(version | headerSize<<32)
	h[headRecord].Store(recordSize)
	h[headPID].Store(uint64(os.Getpid()))
	h[headSince].Store(uint64(time.Now().UnixNano()))
	h[headNetns].Store(netns())
	h[headMagic].Store(magicWord())
	return p
}

func magicWord() (w uint64) {
	for i := range 8 {
		w |= uint64(magic[i]) << (8 * i)
	}
	return w
}

var errOff = errors.New("switched off by the environment variable " + offEnv)

// Published returns nil if others can read the page, and otherwise why not.
func Published() error { return own.err }

// take returns a record that is free.
func (p *page) take() *Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.vacant) == 0 && !p.grow() {
		p.header.words[headLost].Add(1)
		return nil
	}
	i := p.vacant[len(p.vacant)-1]
	p.vacant = p.vacant[:len(p.vacant)-1]
	return p.at(i)
}

func (p *page) at(i uint32) *Record { return &p.chunks[i/chunkRecords][i%chunkRecords] }

// grow makes room for a chunk. Its caller holds p.mu.
func (p *page) grow() bool {
	n := len(p.chunks)
	if (n+1)*chunkRecords > maxRecords {
		return false
	}
	var c *chunk
	if p.file == nil {
		c = new(chunk)
	} else {
		memory, err := p.file.grow(headerSize+n*int(unsafe.Sizeof(chunk{})), int(unsafe.Sizeof(chunk{})))
		if err != nil {
			return false
		}
		c = (*chunk)(unsafe.Pointer(&memory[0]))
	}
	p.chunks = append(p.chunks, c)
	for i := chunkRecords - 1; i >= 0; i-- {
		p.vacant = append(p.vacant, uint32(n*chunkRecords+i))
	}
	p.header.words[headCapacity].Store(uint64((n + 1) * chunkRecords))
	return true
}

// put takes back a record.
func (p *page) put(r *Record) {
	if kind := r.end(); kind != free {
		p.gone.keep(kind, r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, ok := p.indexOf(r); ok {
		p.vacant = append(p.vacant, i)
	}
}

// indexOf returns the number of a record. Its caller holds p.mu.
func (p *page) indexOf(r *Record) (uint32, bool) {
	at := uintptr(unsafe.Pointer(r))
	if p.file != nil { // where the chunks follow each other
		i := (at - uintptr(unsafe.Pointer(&p.file.memory[0])) - headerSize) / recordSize
		return uint32(i), i < uintptr(len(p.chunks)*chunkRecords)
	}
	for n, c := range p.chunks {
		if off := at - uintptr(unsafe.Pointer(c)); off < unsafe.Sizeof(*c) {
			return uint32(n*chunkRecords) + uint32(off/recordSize), true
		}
	}
	return 0, false
}

func open(k Kind, s State, t *Traits) *Record {
	r := own.take()
	if r != nil {
		r.begin(k, s, t)
	}
	return r
}

// OpenConn returns a record for a connection, or nil if there is no room.
func OpenConn(t *Traits) *Conn {
	return (*Conn)(unsafe.Pointer(open(KindConn, Established, t)))
}

// OpenListener returns a record for a listener, which others do not see if there is no room.
func OpenListener(t *Traits) *Listener {
	if r := open(KindListener, Listening, t); r != nil {
		return (*Listener)(unsafe.Pointer(r))
	}
	return &Listener{}
}

// OpenPort returns a record for a reservation, or nil if there is no room.
func OpenPort(s State, t *Traits) *Port {
	return (*Port)(unsafe.Pointer(open(KindPort, s, t)))
}

// Free gives the record back. Nothing may be done with it after that.
func (r *Record) Free() { own.put(r) }

// SetUp counts a connection that was made, and how long that took, if that is known.
func SetUp(d Direction, transport string, reason uint8, took time.Duration) {
	path := PathOf(transport)
	own.header.tally.setUp(d, path, reason, took)
	if took > 0 {
		own.gone.took[d][kindOf(path)].Add(int64(took))
	}
}

// Fail counts a dial or handshake that gave no connection.
func Fail(d Direction, reason uint8) { own.header.tally.failed(d, reason) }

// Own returns the counters of this process.
func Own() Tally {
	t := &own.header.tally
	return tallyOf(func(i int) uint64 { return t[i].Load() })
}

// OfStream calls f with the record of an *rdmanet.Conn, unless that is closed. Package rdmanet sets
// it; f must not use the connection.
var OfStream func(conn any, f func(*Conn))

// StreamClosed reports whether Close was called of an *rdmanet.Conn. Package rdmanet sets it.
var StreamClosed func(conn any) bool

// OnFailure is told of each *rdmanet.Conn that ends by a fault, in a goroutine of its own, if it is
// set.
var OnFailure atomic.Pointer[func(conn any, err error)]

// Words are what a record says, not yet taken apart.
type Words [recordWords]uint64

// Words returns what the record says.
func (r *Record) Words() *Words {
	var w Words
	for i := range w {
		w[i] = r.words[i].Load()
	}
	return &w
}

// Entry takes apart what a record says.
func (w *Words) Entry() Entry { return entryOf((*[recordWords]uint64)(w)) }

// A Sum is what is left of a connection that is closed: what it has counted.
type Sum struct {
	traits, since uint64
	counters      [numCounters]uint64
}

// Sum returns what the connection has counted.
func (c *Conn) Sum() *Sum {
	s := &Sum{traits: c.words[wordTraits].Load(), since: c.words[wordSince].Load()}
	for i := range s.counters {
		s.counters[i] = c.get(i)
	}
	return s
}

// Entry returns an Entry without addresses and text.
func (s *Sum) Entry() Entry {
	var w [recordWords]uint64
	w[wordSeq], w[wordTraits], w[wordSince] = uint64(KindConn), s.traits, s.since
	copy(w[wordCounters:], s.counters[:])
	return entryOf(&w)
}

// Entries returns what the records of this process say.
func Entries() (list []Entry) {
	p := own
	p.mu.Lock()
	chunks := p.chunks
	p.mu.Unlock()
	var e Entry
	for _, c := range chunks {
		for i := range c {
			if c[i].read(&e) {
				list = append(list, e)
			}
		}
	}
	return list
}
