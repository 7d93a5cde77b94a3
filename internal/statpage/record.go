package statpage

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// Kind says what a record is about.
type Kind uint8

// The kinds of records.
const (
	free Kind = iota
	KindConn
	KindListener
	KindPort
)

// State is how far something is. Its meaning depends on the kind.
type State uint8

// The states of connections.
const (
	Established  State = iota + 1
	WriteClosed        // this end writes no more
	PeerFinished       // the peer writes no more
	BothFinished       // neither writes
	Closed
	Failed
)

// The states of listeners.
const (
	Listening State = iota + 1
	Draining
	ListenerClosed
)

// OfListener returns the state of a listener in words.
func (s State) OfListener() string {
	return name(s, "unknown", "listening", "draining", "closed")
}

// OfPort returns the state of a reservation in words.
func (s State) OfPort() string {
	return name(s, "idle", "listening", "connected", "conflict")
}

func name(s State, names ...string) string {
	if int(s) < len(names) {
		return names[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// String returns the state of a connection in words.
func (s State) String() string {
	return name(s, "unknown", "established", "write-closed", "peer-finished", "closing", "closed", "failed")
}

// Bits of a record's traits.
const (
	FlagOffloaded = 1 << iota
	FlagAccepted
	FlagCRC
	FlagExtended // the peer is of this module
	FlagImmediate
	FlagTermSent
	FlagTermReceived
	FlagFailed // it ended by a fault
)

const (
	recordWords = 32
	recordSize  = 8 * recordWords

	transportLen = 8
	deviceLen    = 24
	textLen      = 48
)

// Words of a record. Which of the counters there are depends on the kind.
const (
	wordSeq    = iota // number<<8 | Kind; the number is odd while the record is rewritten
	wordTraits        // flags | reason<<16 | peer's reason<<24 | MPA revision<<32 | IRD<<40 | ORD<<48 | policy<<56
	wordState         // State | code of a Terminate<<16
	wordSince
	wordLocal
	_
	wordRemote
	_
	wordPorts // local | remote<<16 | scope<<32
	wordTransport
	wordDevice
	_
	_
	wordText
	_
	_
	_
	_
	_
	wordSetup
	wordCounters
)

// numCounters is how many counters a record has.
const numCounters = recordWords - wordCounters

// A Record is what others see of one connection, listener or reservation. Its words are stored one
// by one; those from wordTraits to wordSetup, but for the state, only with the record's number odd.
type Record struct {
	words [recordWords]atomic.Uint64
}

// Traits is what does not change often.
type Traits struct {
	Flags      uint16
	Reason     uint8 // number of an iwarp.Reason
	PeerReason uint8 // 1 more than the number of a redirect.Why; 0 if the peer has not said why
	Revision   uint8 // of MPA; 0 if there is none, or it is not known
	IRD, ORD   uint8 // 255 stands for all that is more
	Policy     uint8 // of a listener

	Since         time.Time
	Local, Remote netip.AddrPort
	Transport     string
	Device        string // or the owner of a reservation
	Text          string // what led to the reason, or to the end
	Setup         time.Duration
}

// lock makes the number odd, and returns what it is.
func (r *Record) lock() uint64 {
	for {
		w := r.words[wordSeq].Load()
		if w>>8&1 == 0 && r.words[wordSeq].CompareAndSwap(w, w+1<<8) {
			return w + 1<<8
		}
		runtime.Gosched() // whoever has it stores a few words
	}
}

func (r *Record) unlock(w uint64) { store(&r.words[wordSeq], w+1<<8) }

// begin gives the record to something of the kind.
func (r *Record) begin(k Kind, s State, t *Traits) {
	w := r.words[wordSeq].Load() + 1<<8 // nobody else has it
	store(&r.words[wordSeq], w)
	for i := wordCounters; i < recordWords; i++ {
		store(&r.words[i], 0)
	}
	store(&r.words[wordState], uint64(s))
	r.store(t)
	r.unlock(w&^0xff | uint64(k))
}

// end makes the record free, and returns what it was.
func (r *Record) end() Kind {
	w := r.words[wordSeq].Load()
	store(&r.words[wordSeq], (w+2<<8)&^0xff)
	return Kind(w)
}

// Amend adds the flags of t, and replaces reasons, transport, text and the time of the set-up as
// far as t has them.
func (r *Record) Amend(t *Traits) {
	w := r.lock()
	traits := r.words[wordTraits].Load() | uint64(t.Flags)
	if t.Reason != 0 {
		traits = traits&^(0xff<<16) | uint64(t.Reason)<<16
	}
	if t.PeerReason != 0 {
		traits = traits&^(0xff<<24) | uint64(t.PeerReason)<<24
	}
	store(&r.words[wordTraits], traits)
	if t.Setup != 0 {
		store(&r.words[wordSetup], uint64(t.Setup))
	}
	if t.Transport != "" {
		r.storeText(wordTransport, transportLen, t.Transport)
	}
	if t.Text != "" {
		r.storeText(wordText, textLen, t.Text)
	}
	r.unlock(w)
}

func (r *Record) store(t *Traits) {
	put := func(i int, v uint64) { store(&r.words[i], v) }
	put(wordTraits, uint64(t.Flags)|uint64(t.Reason)<<16|uint64(t.PeerReason)<<24|uint64(t.Revision)<<32|
		uint64(t.IRD)<<40|uint64(t.ORD)<<48|uint64(t.Policy)<<56)
	since := uint64(0)
	if !t.Since.IsZero() {
		since = uint64(t.Since.UnixNano())
	}
	put(wordSince, since)
	scope := r.storeAddr(wordLocal, t.Local.Addr()) | r.storeAddr(wordRemote, t.Remote.Addr())
	put(wordPorts, uint64(t.Local.Port())|uint64(t.Remote.Port())<<16|uint64(scope)<<32)
	r.storeText(wordTransport, transportLen, t.Transport)
	r.storeText(wordDevice, deviceLen, t.Device)
	r.storeText(wordText, textLen, t.Text)
	put(wordSetup, uint64(t.Setup))
}

// storeAddr returns the number of the zone, if that is a number.
func (r *Record) storeAddr(at int, a netip.Addr) (scope uint32) {
	var b [16]byte
	if a.IsValid() {
		b = a.As16()
		if a.Is6() && !a.Is4In6() && a.Zone() != "" {
			scope = scopeOf(a.Zone())
		}
	}
	store(&r.words[at], binary.NativeEndian.Uint64(b[:]))
	store(&r.words[at+1], binary.NativeEndian.Uint64(b[8:]))
	return scope
}

func scopeOf(zone string) uint32 {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(ifi.Index)
}

func (r *Record) storeText(at, size int, s string) {
	for end := at + size/8; at < end; at++ {
		n := min(len(s), 8)
		store(&r.words[at], wordOf(s[:n]))
		s = s[n:]
	}
}

// wordOf returns the word that s is in memory, of up to 8 bytes.
func wordOf(s string) uint64 {
	if len(s) == 0 {
		return 0
	}
	var b [8]byte
	copy(b[:], s)
	return binary.NativeEndian.Uint64(b[:])
}

// SetState stores the state, and the code of a Terminate if there was one.
func (r *Record) SetState(s State, terminate uint16) {
	store(&r.words[wordState], uint64(s)|uint64(terminate)<<16)
}

func (r *Record) counter(i int) *atomic.Uint64 { return &r.words[wordCounters+i] }

// An Entry is a record as a reader has found it.
type Entry struct {
	Kind      Kind
	State     State
	Terminate uint16
	Traits
	Counters [numCounters]uint64
}

// read copies the record, and reports whether it stayed the same meanwhile and is in use.
func (r *Record) read(e *Entry) bool {
	var words [recordWords]uint64
	for range maxTries {
		before := r.words[wordSeq].Load()
		if before>>8&1 == 1 {
			runtime.Gosched()
			continue
		}
		if Kind(before) == free {
			return false
		}
		for i := range words {
			words[i] = r.words[i].Load()
		}
		if r.words[wordSeq].Load() == before {
			*e = entryOf(&words)
			return true
		}
	}
	return false
}

// maxTries is how often a record that changes is read again.
const maxTries = 100

func entryOf(words *[recordWords]uint64) Entry {
	return Entry{
		Kind: Kind(words[wordSeq]), State: State(words[wordState]), Terminate: uint16(words[wordState] >> 16),
		Traits: traitsOf(words), Counters: [numCounters]uint64(words[wordCounters:]),
	}
}

func traitsOf(words *[recordWords]uint64) Traits {
	w, ports := words[wordTraits], words[wordPorts]
	t := Traits{
		Flags: uint16(w), Reason: uint8(w >> 16), PeerReason: uint8(w >> 24), Revision: uint8(w >> 32),
		IRD: uint8(w >> 40), ORD: uint8(w >> 48), Policy: uint8(w >> 56),
		Local:     addrPort(words[wordLocal:], uint16(ports), uint32(ports>>32)),
		Remote:    addrPort(words[wordRemote:], uint16(ports>>16), uint32(ports>>32)),
		Transport: text(words[wordTransport:], transportLen),
		Device:    text(words[wordDevice:], deviceLen),
		Text:      text(words[wordText:], textLen),
		Setup:     time.Duration(min(words[wordSetup], 1<<63-1)),
	}
	if since := words[wordSince]; since != 0 {
		t.Since = time.Unix(0, int64(min(since, 1<<63-1)))
	}
	return t
}

// addrPort returns no address where there is neither address nor port, as of a peer.
func addrPort(words []uint64, port uint16, scope uint32) netip.AddrPort {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:], words[0])
	binary.NativeEndian.PutUint64(b[8:], words[1])
	a := netip.AddrFrom16(b).Unmap()
	if a.IsUnspecified() && a.Is6() && port == 0 {
		return netip.AddrPort{}
	}
	if scope != 0 && a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(strconv.FormatUint(uint64(scope), 10))
	}
	return netip.AddrPortFrom(a, port)
}

// text returns a string that a terminal can show, whatever the words are.
func text(words []uint64, size int) string {
	var b [textLen]byte
	s := string(rawText(&b, words, size))
	return printable(strings.TrimRight(strings.ToValidUTF8(s, ""), " "))
}

// rawText returns the text of the words as it is there, in b.
func rawText(b *[textLen]byte, words []uint64, size int) []byte {
	for i := 0; i < size; i += 8 {
		binary.NativeEndian.PutUint64(b[i:], words[i/8])
	}
	if n := bytes.IndexByte(b[:size], 0); n >= 0 {
		size = n
	}
	return b[:size]
}

// printable replaces what could make a terminal do something.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
