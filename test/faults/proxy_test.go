package faults

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type kind uint8

const (
	none kind = iota
	reset
	stall
	halfClose
	delay
	duplicate
	flip
	segments
)

var kindNames = [...]string{"none", "reset", "stall", "half-close", "delay", "duplicate", "flip", "segments"}

func (k kind) String() string { return kindNames[k] }

// harmless faults are those that TCP may do to any stream.
func (k kind) harmless() bool { return k == none || k == delay || k == segments }

// A fault is done once, to byte at of a direction.
type fault struct {
	kind kind
	dir  int // 0 is what the client sends
	at   int
	bit  uint8
}

const delayed = 10 * time.Millisecond

// A proxy passes on one connection.
type proxy struct {
	l      *net.TCPListener
	to     string
	fault  fault
	passed [2]int // bytes that came
	ends   [2]*net.TCPConn
	mu     sync.Mutex
	over   bool
	wg     sync.WaitGroup
	stop   chan struct{}
}

func newProxy(t *testing.T, to string, f fault) *proxy {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	p := &proxy{l: l, to: to, fault: f, stop: make(chan struct{})}
	p.wg.Go(p.serve)
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) serve() {
	a, err := p.l.AcceptTCP()
	if err != nil {
		return
	}
	b, err := net.Dial("tcp", p.to)
	if err != nil {
		_ = a.Close()
		return
	}
	p.mu.Lock()
	p.ends = [2]*net.TCPConn{a, b.(*net.TCPConn)}
	over := p.over
	p.mu.Unlock()
	if over {
		p.end(false)
	}
	p.wg.Go(func() { p.pass(0) })
	p.wg.Go(func() { p.pass(1) })
}

// pass carries what comes in direction dir.
func (p *proxy) pass(dir int) {
	from, to := p.ends[dir], p.ends[1-dir]
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		b := buf[:n]
		first := p.passed[dir]
		p.passed[dir] += n
		if i := p.fault.at - first; p.fault.dir == dir && i >= 0 && i < n {
			if !p.harm(to, b, i) {
				return
			}
			b = nil
		}
		if !p.forward(to, b) || err != nil {
			_ = to.CloseWrite()
			return
		}
	}
}

func (p *proxy) forward(to *net.TCPConn, b []byte) bool {
	if p.fault.kind != segments {
		_, err := to.Write(b)
		return err == nil
	}
	for i := range b {
		if _, err := to.Write(b[i : i+1]); err != nil {
			return false
		}
	}
	return true
}

// harm does it to byte i of b, and passes on the rest if it returns true.
func (p *proxy) harm(to *net.TCPConn, b []byte, i int) bool {
	if !p.forward(to, b[:i]) {
		return false
	}
	rest := b[i:]
	switch p.fault.kind {
	case reset:
		p.end(true)
		return false
	case stall:
		<-p.stop
		return false
	case halfClose:
		_ = to.CloseWrite()
		return false
	case delay:
		select {
		case <-time.After(delayed):
		case <-p.stop:
		}
	case duplicate:
		rest = append([]byte{b[i]}, rest...)
	case flip:
		rest[0] ^= 1 << p.fault.bit
	}
	return p.forward(to, rest)
}

func (p *proxy) end(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for _, c := range p.ends {
		if c == nil {
			continue
		}
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (p *proxy) close() {
	_ = p.l.Close()
	close(p.stop)
	p.end(false)
	p.wg.Wait()
}
