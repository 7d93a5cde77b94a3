package differential

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A step is one call at one end, or two at once.
type step struct {
	end  int // 0 is the client
	call call
	n    int // bytes
}

type call uint8

const (
	write call = iota
	read
	readWaiting // a Read that may wait, and the next step during it
	closeWrite
	closeRead
	closeBoth
	abort // SetLinger(0) and Close
	pastReadDeadline
	pastWriteDeadline
	noDeadline
	calls        // how many there are of those above
	writeWaiting // last: a Write that waits for room, and the next step during it
)

var callNames = [...]string{"write", "read", "waiting read", "close write", "close read", "close", "abort", "past read deadline", "past write deadline", "no deadline", "", "waiting write"}

// weights are how often each call is made, as most that end something should come late.
var weights = [calls]int{write: 30, read: 30, readWaiting: 12, closeWrite: 5, closeRead: 3, closeBoth: 4, abort: 2, pastReadDeadline: 2, pastWriteDeadline: 2, noDeadline: 3}

func (s step) String() string {
	text := fmt.Sprintf("%s: %s", [...]string{"client", "server"}[s.end], callNames[s.call])
	if s.call <= readWaiting {
		text += fmt.Sprintf(" %d", s.n)
	}
	return text
}

// sizes are those of writes and reads: none, and some around where segments and rings have their
// limits. Their sum stays below what any path takes without a reader.
var sizes = []int{0, 1, 7, 64, 1000, 1460, 4096, 9000}

func newSchedule(seed uint64) []step {
	r := rand.New(rand.NewPCG(seed, 1))
	total := 0
	for _, w := range weights {
		total += w
	}
	s := make([]step, 4+r.IntN(12))
	for i := range s {
		pick := r.IntN(total)
		c := call(0)
		for ; pick >= weights[c]; c++ {
			pick -= weights[c]
		}
		s[i] = step{end: r.IntN(2), call: c, n: sizes[r.IntN(len(sizes))]}
	}
	if r.IntN(3) == 0 {
		during := []call{closeWrite, closeRead, closeBoth, abort, pastReadDeadline, pastWriteDeadline, read}
		s = append(s, step{r.IntN(2), writeWaiting, 0}, step{r.IntN(2), during[r.IntN(len(during))], 1})
	}
	return s
}

func text(s []step) string {
	var b strings.Builder
	for _, st := range s {
		fmt.Fprintf(&b, "\t%v\n", st)
	}
	return b.String()
}

// A conn is what net.TCPConn and the connections of this module have.
type conn interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
	SetLinger(sec int) error
}

const (
	// short is how long a Read waits where nothing is to come.
	short = 3 * time.Millisecond
	// long is how long a call may take that has something to return. It is met only by a failure.
	long = 5 * time.Second
)

// A run is the state of a schedule on its way.
type run struct {
	ends  [2]conn
	model [2]model
	sent  [2]int // bytes, of a pattern that both ends know
	got   [2]int
	out   []string // what each step returned
}

// A model is what the test can tell of what is to come to an end, so that a Read that will wait in
// vain need not wait for long. It decides about time, and about what may differ, see after.
type model struct {
	unread             int  // bytes on their way to this end
	eof                bool // the peer has ended its writing
	broken             bool // a reset has come or gone
	closed, readClosed bool
	past               bool // its read deadline
	late               bool // data has come after both of its halves were shut
	reset              bool // has been told, or may be
	lost               bool // what the peer did may have been thrown away by its abort
}

func (m *model) ready(n int) bool {
	return n == 0 || m.unread > 0 || m.eof || m.broken || m.closed || m.readClosed || m.past
}

// do runs a schedule on a pair of ends and returns what each step did.
func do(client, server conn, steps []step) []string {
	r := &run{ends: [2]conn{client, server}}
	for i := 0; i < len(steps); i++ {
		s := steps[i]
		if s.call == writeWaiting {
			if i+1 < len(steps) {
				r.blocked(s, steps[i+1])
			}
			return r.out
		}
		if s.call != readWaiting || i+1 == len(steps) || steps[i+1].call == readWaiting || steps[i+1].call == read && steps[i+1].end == s.end {
			r.out = append(r.out, r.do(s))
			continue
		}
		i++
		r.during(s, steps[i])
	}
	return r.out
}

// A result is what a Read has returned.
type result struct {
	b   []byte
	n   int
	err error
}

func (r *run) start(s step) result {
	b := make([]byte, s.n)
	n, err := r.ends[s.end].Read(b)
	return result{b, n, err}
}

// during has a Read wait while another step is made.
func (r *run) during(s, other step) {
	m := &r.model[s.end]
	if m.ready(s.n) { // the order of the two would be open
		r.out = append(r.out, r.do(s), r.do(other))
		return
	}
	_ = r.ends[s.end].SetReadDeadline(time.Time{})
	done := make(chan result, 1)
	go func() { done <- r.start(s) }()
	r.out = append(r.out, r.do(other))
	limit := long
	if !m.ready(s.n) {
		limit = short
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var got result
	select {
	case got = <-done:
	case <-timer.C:
		_ = r.ends[s.end].SetReadDeadline(time.Unix(1, 0))
		got = <-done
	}
	r.out = append(r.out, r.finish(s, got))
}

// plenty is more than any path takes without a reader.
var plenty = make([]byte, 32<<20)

// blocked has a Write wait while another step is made. How much of it was taken is not compared.
func (r *run) blocked(s, other step) {
	m, peer := &r.model[s.end], &r.model[1-s.end]
	if m.closed || m.broken || peer.closed || peer.readClosed || peer.eof {
		return // it does not wait, or is taken for nobody
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.ends[s.end].Write(plenty)
		done <- err
	}()
	time.Sleep(short)
	r.out = append(r.out, r.do(other))
	said := ""
	select {
	case err := <-done:
		said = class(err)
	case <-time.After(10 * short):
		_ = r.ends[s.end].SetWriteDeadline(time.Unix(1, 0))
		said = "waits, " + class(<-done)
	}
	if other.end != s.end && (other.call == closeBoth || other.call == abort) && said != "closed" && said != "ok" {
		said = "ended" // by a reset, of which a writer may hear late
	}
	if peer.readClosed && m.eof {
		said = "told, or not" // that the peer has ended both halves, which TCP does not tell
	}
	r.out = append(r.out, fmt.Sprintf("%v = %s", s, said))
}

func (r *run) do(s step) string {
	c, m, peer := r.ends[s.end], &r.model[s.end], &r.model[1-s.end]
	switch s.call {
	case write:
		b := make([]byte, s.n)
		for i := range b {
			b[i] = pattern(r.sent[s.end] + i)
		}
		n, err := c.Write(b)
		r.sent[s.end] += n
		peer.unread += n
		peer.late = peer.late || n > 0 && peer.readClosed && m.eof && !peer.closed
		m.broken = m.broken || n > 0 && (peer.closed || peer.readClosed && m.eof) // a reset answers
		return r.after(s, n, class(err))
	case read, readWaiting:
		limit := long
		switch {
		case m.past:
			limit = -1
		case !m.ready(s.n):
			limit = short
		}
		_ = c.SetReadDeadline(time.Now().Add(limit))
		return r.finish(s, r.start(s))
	case closeWrite:
		err := c.CloseWrite()
		peer.eof = true
		return r.after(s, 0, class(err))
	case closeRead:
		err := c.CloseRead()
		m.readClosed = true
		return r.after(s, 0, class(err))
	case closeBoth, abort:
		if s.call == abort {
			_ = c.SetLinger(0)
			peer.lost = peer.lost || !m.closed && s.end == 1 && r.got[1] == 0
		}
		err := c.Close()
		m.closed, peer.eof, peer.broken = true, true, true
		return fmt.Sprintf("%v = %s", s, class(err))
	case pastReadDeadline:
		m.past = true
		return fmt.Sprintf("%v = %s", s, class(c.SetReadDeadline(time.Unix(1, 0))))
	case pastWriteDeadline:
		return fmt.Sprintf("%v = %s", s, class(c.SetWriteDeadline(time.Unix(1, 0))))
	default:
		m.past = false
		return fmt.Sprintf("%v = %s", s, class(c.SetDeadline(time.Time{})))
	}
}

// finish reads what there is besides what one call has returned, and checks it. Like other readers,
// one of this module may return what it has at hand, though there is more.
func (r *run) finish(s step, got result) string {
	m := &r.model[s.end]
	m.unread -= got.n
	for got.n > 0 && got.n < s.n && m.unread > 0 && got.err == nil {
		_ = r.ends[s.end].SetReadDeadline(time.Now().Add(long))
		more, err := r.ends[s.end].Read(got.b[got.n:])
		got.n, got.err = got.n+more, err
		m.unread -= more
	}
	bad := ""
	for i, b := range got.b[:got.n] {
		if b != pattern(r.got[s.end]+i) {
			bad = ", wrong bytes"
		}
	}
	r.got[s.end] += got.n
	return r.after(s, got.n, class(got.err)) + bad
}

func pattern(i int) byte { return byte(i * 131 >> 3) }

// after makes the same of what may differ with good reason. The kernel tells once of a reset and
// then of the end of the stream, where this module's connections keep to the reset. How soon a
// write finds out that the peer has closed is a matter of time over TCP, too. And data that comes
// to an end with both halves shut makes the kernel reset; here it can be read. The end that has
// accepted sends nothing before it has heard from the other (RFC 5044 §7.1.2), and an abort throws
// away what it has.
func (r *run) after(s step, n int, class string) string {
	m, peer := &r.model[s.end], &r.model[1-s.end]
	if class == "reset" || class == "broken pipe" {
		m.reset = true
	}
	if (peer.closed || peer.late) && s.call == write && class != "closed" && class != "timeout" {
		m.reset = true
		return fmt.Sprintf("%v to nobody", s)
	}
	if m.lost && (s.call == read || s.call == readWaiting) {
		return fmt.Sprintf("%v, or nothing", s)
	}
	if m.readClosed && peer.eof && m.late {
		return fmt.Sprintf("%v, late", s)
	}
	if class == "not connected" {
		class = "ok" // a half that has ended is ended again
	}
	if m.broken && (s.call == closeWrite || s.call == closeRead) && class != "closed" {
		class = "ended"
	}
	if m.reset && (class != "ok" || s.call != read && s.call != readWaiting) && class != "closed" && class != "timeout" {
		class = "ended"
	}
	return fmt.Sprintf("%v = %d, %s", s, n, class)
}

// class is what a caller can tell an error by.
func class(err error) string {
	switch {
	case err == nil:
		return "ok"
	case err == io.EOF:
		return "EOF"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, net.ErrClosed):
		return "closed"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, syscall.EPIPE):
		return "broken pipe"
	case errors.Is(err, syscall.ENOTCONN):
		return "not connected"
	}
	return fmt.Sprintf("%T %v", err, err)
}

// shrink removes steps as long as differs holds.
func shrink(steps []step, differs func([]step) bool) []step {
	for again := true; again; {
		again = false
		for i := range steps {
			if less := slices.Delete(slices.Clone(steps), i, i+1); differs(less) {
				steps, again = less, true
				break
			}
		}
	}
	return steps
}
