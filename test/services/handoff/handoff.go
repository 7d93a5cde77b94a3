// Package handoff has the configurations of a server that reloads within its process, as Caddy
// does, share one iwarp.Listener, so that no client is lost when one configuration follows the
// other.
//
// Such a server opens the listeners of the new configuration before it closes those of the old one.
// Two sockets of one port would each have a queue of their own, and whoever waits in the queue that
// is closed is reset. Two listeners of one socket still lose clients: http.Server.Shutdown closes
// connections whose first request it has not read. So here is one listener. The configuration that
// is to go gets no clients any more once the new one has opened its listener, and the time to read
// the first requests of those that it has got. The new one gets clients once the old one has
// closed, so that one that fails to load has none to lose, and the old one goes on.
package handoff

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rdmanet/iwarp"
)

const (
	// grace bounds what clients of the configuration before have to get the first byte of their
	// first answer. The new ones wait in the kernel's queue meanwhile.
	grace = 500 * time.Millisecond
	// trial is how long a configuration gets no clients while the one before has not closed its
	// listener: should it fail to load, it will close its own, with what it has got.
	trial = 5 * time.Second
)

var past = time.Unix(1, 0)

// Sockets are the listeners of a process, by address. The zero value has none.
type Sockets struct {
	mu   sync.Mutex
	open map[string]*socket
}

// Listen opens the address, or takes over from the listener of the same address that is open. That
// one gets clients again if the new one is closed before it.
func (s *Sockets) Listen(ctx context.Context, lc *iwarp.ListenConfig, network, address string) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := network + "/" + address
	at := s.open[key]
	if at == nil {
		l, err := lc.Listen(ctx, network, address)
		if err != nil {
			return nil, err
		}
		at = &socket{l: l.(*iwarp.Listener), changed: make(chan struct{}), first: make(map[*conn]bool)}
		if s.open == nil {
			s.open = make(map[string]*socket)
		}
		s.open[key] = at
	}
	l := &listener{socket: at, opened: time.Now(), leave: func(l *listener) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if at.remove(l) > 0 {
			return nil
		}
		delete(s.open, key)
		return at.l.Close()
	}}
	at.add(l)
	at.settle(ctx)
	return l, nil
}

// socket is one listener of the kernel, and what shares it.
type socket struct {
	l         *iwarp.Listener
	accepting sync.Mutex // held over a call of Accept

	mu      sync.Mutex
	users   []*listener    // the last one gets the clients, if it is the only one or its trial is over
	changed chan struct{}  // closed when users or first change
	first   map[*conn]bool // accepted, and not answered yet
}

func (s *socket) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *socket) add(l *listener) {
	s.mu.Lock()
	s.users = append(s.users, l)
	s.change()
	s.mu.Unlock()
	s.callBack()
}

// remove returns how many are left.
func (s *socket) remove(l *listener) int {
	s.mu.Lock()
	s.users = slices.DeleteFunc(s.users, func(u *listener) bool { return u == l })
	left := len(s.users)
	s.change()
	s.mu.Unlock()
	if left > 0 {
		s.callBack()
	}
	return left
}

// callBack has a call of Accept that is under way look again whose turn it is.
func (s *socket) callBack() {
	_ = s.l.SetDeadline(past)
	s.accepting.Lock()
	defer s.accepting.Unlock()
	_ = s.l.SetDeadline(time.Time{})
}

// look reports whether the listener gets the clients, or is closed. What it says holds until
// changed is closed, or for as long as wait says if that is not 0.
func (s *socket) look(l *listener) (mine, gone bool, wait time.Duration, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.users, l)
	if i > 0 && i == len(s.users)-1 {
		wait = max(0, trial-time.Since(l.opened))
	}
	return i == len(s.users)-1 && wait == 0, i < 0, wait, s.changed
}

// settle waits until the first requests of the clients so far have come to a handler.
func (s *socket) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for {
		s.mu.Lock()
		changed, n := s.changed, len(s.first)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// listener is what one configuration has.
type listener struct {
	*socket
	opened time.Time
	leave  func(*listener) error
	once   sync.Once
}

func (l *listener) Addr() net.Addr { return l.l.Addr() }

func (l *listener) Accept() (net.Conn, error) {
	for {
		mine, gone, wait, changed := l.look(l)
		switch {
		case gone:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
		case !mine:
			await(changed, wait)
			continue
		}
		if c, err := l.accept(); c != nil || err != nil {
			return c, err
		}
	}
}

// await waits until changed is closed, for as long as limit if that is not 0.
func await(changed <-chan struct{}, limit time.Duration) {
	var over <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-changed:
	case <-over:
	}
}

// accept returns nothing if it was called back.
func (l *listener) accept() (net.Conn, error) {
	l.accepting.Lock()
	defer l.accepting.Unlock()
	if mine, _, _, _ := l.look(l); !mine {
		return nil, nil
	}
	c, err := l.l.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	accepted := &conn{stream: c.(stream), socket: l.socket}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first[accepted] = true
	return accepted, nil
}

func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() { err = l.leave(l) })
	return err
}

// stream is what *net.TCPConn and *rdmanet.Conn both are.
type stream interface {
	net.Conn
	io.ReaderFrom
	CloseWrite() error
}

// conn tells when its first answer begins.
type conn struct {
	stream
	socket *socket
	begun  sync.Once
}

func (c *conn) answered() {
	c.begun.Do(func() {
		s := c.socket
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.first, c)
		if len(s.first) == 0 {
			s.change()
		}
	})
}

func (c *conn) Write(p []byte) (int, error) {
	c.answered()
	return c.stream.Write(p)
}

func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	c.answered()
	return c.stream.ReadFrom(r)
}

func (c *conn) Close() error {
	c.answered()
	return c.stream.Close()
}

// NetConn is where iwarp.Describe finds the connection.
func (c *conn) NetConn() net.Conn { return c.stream }
