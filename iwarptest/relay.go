package iwarptest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A Relay stands between the clients and the server of a test, and does to their connections what
// networks do. It carries the paths that are kernel TCP on the wire, Plain and Soft. Its methods
// may be called by several goroutines at once.
type Relay struct {
	l       net.Listener
	to      net.Addr
	running sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	pairs   map[*relayed]bool
	stalled bool
	closed  bool
	corrupt bool
}

// relayed are the two connections of a client.
type relayed struct{ client, server *net.TCPConn }

// NewRelay returns a relay to the server at to. It ends with the test.
func NewRelay(t testing.TB, to net.Addr) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(loopback.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{l: l, to: to, pairs: make(map[*relayed]bool)}
	r.changed = sync.NewCond(&r.mu)
	r.running.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

// Addr is where clients dial.
func (r *Relay) Addr() net.Addr { return r.l.Addr() }

// Cut resets all connections, as a host does that has gone down and come back.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		p.reset()
	}
}

// Stall stops to carry anything, as a network does that has failed.
func (r *Relay) Stall() { r.set(func() { r.stalled = true }) }

// Resume ends what Stall began. Nothing is lost.
func (r *Relay) Resume() { r.set(func() { r.stalled = false }) }

// Corrupt damages a bit in the last byte of what goes through next, in either direction. TCP's
// checksum does not find it.
func (r *Relay) Corrupt() { r.set(func() { r.corrupt = true }) }

func (r *Relay) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	r.changed.Broadcast()
}

func (r *Relay) close() {
	_ = r.l.Close()
	r.set(func() { r.closed = true })
	r.Cut()
	r.running.Wait()
}

func (r *Relay) accept() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		client := c.(*net.TCPConn)
		s, err := net.Dial(r.to.Network(), r.to.String())
		if err != nil {
			_ = client.SetLinger(0)
			_ = client.Close()
			continue
		}
		r.carry(&relayed{client, s.(*net.TCPConn)})
	}
}

// carry starts to carry both directions of p.
func (r *Relay) carry(p *relayed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		p.reset()
		return
	}
	r.pairs[p] = true
	var directions sync.WaitGroup
	for _, d := range [...]struct{ from, to *net.TCPConn }{{p.client, p.server}, {p.server, p.client}} {
		directions.Go(func() {
			if !r.copy(d.to, d.from) {
				p.reset()
			}
		})
	}
	r.running.Go(func() {
		directions.Wait()
		r.set(func() { delete(r.pairs, p) })
		_ = p.client.Close()
		_ = p.server.Close()
	})
}

// copy carries what comes, to the end of the stream, which it reports.
func (r *Relay) copy(to, from *net.TCPConn) bool {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if !r.pass(b[:n]) {
			return false
		}
		if _, werr := to.Write(b[:n]); werr != nil {
			return false
		}
		switch {
		case err == io.EOF:
			return to.CloseWrite() == nil
		case err != nil:
			return false
		}
	}
}

// pass waits while the relay is stalled, and damages b if that was asked for. It reports false once
// the relay is closed.
func (r *Relay) pass(b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.stalled && !r.closed {
		r.changed.Wait()
	}
	if r.corrupt && len(b) > 0 {
		b[len(b)-1] ^= 1
		r.corrupt = false
	}
	return !r.closed
}

// reset ends both connections at once.
func (p *relayed) reset() {
	for _, c := range [...]*net.TCPConn{p.client, p.server} {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}
