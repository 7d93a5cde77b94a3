package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/rdmanet/iwarp"
)

// greetingTime is what a client has for its PROXY header and the TLS handshake.
const greetingTime = 10 * time.Second

// A carried is a connection of a client, and the one to the target that belongs to it.
type carried struct {
	m              *mapping
	client, target net.Conn // the outermost layer of each

	clientBelow, targetBelow net.Conn // what the kernel or the queue pair has
	from, to                 net.Addr // of the client's connection, as the client sees it

	early        []byte // what has come with the PROXY header
	sent, gotten int64  // bytes to the target, and from it

	clientTold, targetTold atomic.Bool // the end of what goes to it was passed on, or is about to be

	mu    sync.Mutex
	ended bool
}

// newCarried carries nothing yet.
func newCarried(m *mapping, client net.Conn) *carried {
	return &carried{m: m, client: client, clientBelow: client, from: client.RemoteAddr(), to: client.LocalAddr()}
}

// carry carries everything between the client and the target. Its error says why that did not come
// to its end in order.
func (c *carried) carry(ctx context.Context) error {
	defer c.reset() // which does nothing after an orderly end
	if err := c.greet(ctx); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if err := c.connect(ctx); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	client := end{c.client, c.clientBelow, "client", &c.clientTold}
	target := end{c.target, c.targetBelow, "target", &c.targetTold}
	there, back := make(chan error, 1), make(chan error, 1)
	go func() { there <- c.direction(target, client, &c.sent) }()
	go func() { back <- c.direction(client, target, &c.gotten) }()
	var err error
	select {
	case err = <-there:
		err = c.second(err, back, client)
	case err = <-back:
		err = c.second(err, there, target)
	}
	if err == nil {
		err = c.close()
	}
	return err
}

// greet takes what the client says before anything is carried.
func (c *carried) greet(ctx context.Context) error {
	if !c.m.ProxyIn && c.m.TLSIn == nil {
		return nil
	}
	if err := c.client.SetDeadline(time.Now().Add(greetingTime)); err != nil {
		return err
	}
	if c.m.ProxyIn {
		if err := c.readHeader(); err != nil {
			return err
		}
	}
	if c.m.TLSIn != nil {
		under := c.client
		if len(c.early) > 0 {
			under = &begun{Conn: under, early: c.early}
			c.early = nil
		}
		t := tls.Server(under, c.m.TLSIn.config)
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		c.client = t
	}
	return c.client.SetDeadline(time.Time{})
}

// readHeader reads the PROXY header.
func (c *carried) readHeader() error {
	r := bufio.NewReader(c.client)
	h, err := proxyproto.Read(r)
	if err != nil {
		return err
	}
	if h.Command.IsProxy() && h.SourceAddr != nil {
		c.from, c.to = h.SourceAddr, h.DestinationAddr
	}
	c.early = make([]byte, r.Buffered())
	_, err = io.ReadFull(r, c.early)
	return err
}

// begun is a connection of which some bytes were read.
type begun struct {
	net.Conn
	early []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.early) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.early)
	b.early = b.early[n:]
	return n, nil
}

// connect connects to the target.
func (c *carried) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.m.timeout())
	defer cancel()
	d := iwarp.Dialer{Offload: c.m.Target.policy, Transports: transports}
	target, err := d.DialContext(ctx, "tcp", c.m.Target.addr)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.target, c.targetBelow = target, target
	ended := c.ended
	c.mu.Unlock()
	if ended {
		return target.Close()
	}
	if end, ok := ctx.Deadline(); ok && (c.m.ProxyOut || c.m.TLSOut != nil) {
		if err := target.SetDeadline(end); err != nil {
			return err
		}
	}
	if c.m.ProxyOut {
		if _, err := proxyproto.HeaderProxyFromAddrs(2, c.from, c.to).WriteTo(target); err != nil {
			return err
		}
	}
	if c.m.TLSOut != nil {
		t := tls.Client(target, c.m.TLSOut.config)
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		c.target = t
	}
	if err := target.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if len(c.early) > 0 {
		n, err := c.target.Write(c.early)
		c.sent += int64(n)
		return err
	}
	return nil
}

// goneInterval is how often an end that has ended its stream is looked at while the other end has
// not. It is a variable for tests.
var goneInterval = 30 * time.Second

// second waits for the other direction, after the one from an end has come to its own with err. If
// that end is gone for good meanwhile, nobody may be left to notice.
func (c *carried) second(err error, other <-chan error, from end) error {
	if err != nil {
		c.reset()
		<-other
		return err
	}
	look := time.NewTicker(goneInterval)
	defer look.Stop()
	for {
		select {
		case err := <-other:
			if err != nil {
				c.reset()
			}
			return err
		case <-look.C:
			if from.wasReset() {
				c.reset()
				<-other
				return fmt.Errorf("%s: %w", from.name, syscall.ECONNRESET)
			}
		}
	}
}

// An end is one of the two connections.
type end struct {
	net.Conn
	below net.Conn
	name  string
	told  *atomic.Bool
}

// direction carries one direction to its end.
func (c *carried) direction(to, from end, n *int64) error {
	k, err := io.Copy(to.Conn, from.Conn)
	*n += k
	if err == nil && from.wasReset() {
		err = syscall.ECONNRESET
	}
	if err != nil {
		return fmt.Errorf("from %s to %s: %w", from.name, to.name, err)
	}
	to.told.Store(true)
	if err := to.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil && !isOver(err) {
		return fmt.Errorf("end of %s to %s: %w", from.name, to.name, err)
	}
	return nil
}

// wasReset reports whether a connection whose stream has ended was reset. The kernel tells of that
// once, be it a Write of the other direction. The state tells, too, unless this end has ended
// its stream: then it is the same after an orderly end, but nobody writes.
func (e end) wasReset() bool {
	s, ok := iwarp.Stats(e.below)
	return ok && s.Transport == "tcp" && s.State == "closed" && !e.told.Load()
}

// close closes both connections, unless they are reset.
func (c *carried) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	c.ended = true
	err := c.client.Close()
	if terr := c.target.Close(); err == nil {
		err = terr
	}
	return err
}

// reset ends both connections at once, so that neither end takes what it has got for the whole.
func (c *carried) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	for _, below := range []net.Conn{c.clientBelow, c.targetBelow} {
		if below == nil {
			continue
		}
		if l, ok := below.(interface{ SetLinger(int) error }); ok {
			_ = l.SetLinger(0)
		}
		_ = below.Close()
	}
}
