package ports

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/internal/bound"
)

// An Endpoint is the share that one connection of a device has in a Reservation.
type Endpoint struct {
	port   *Reservation
	remote netip.AddrPort   // of a connection that was dialed
	part   func(again bool) // gives the share back
	once   sync.Once
}

// join takes a share in the port for a connection to remote, which is invalid for a connection that
// came in. A port cannot serve two connections to the same remote, as TCP could not tell them
// apart.
func (r *Reservation) join(remote netip.AddrPort) (*Endpoint, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.released || r.lost || r.cancel != nil, r.socket == nil && (r.lives == nil || !r.lives()):
		return nil, net.ErrClosed
	case remote.IsValid():
		if _, taken := r.remotes[remote]; taken {
			return nil, os.NewSyscallError("connect", syscall.EADDRINUSE)
		}
		if r.remotes == nil {
			r.remotes = make(map[netip.AddrPort]func() bool)
		}
		r.remotes[remote] = nil
	}
	r.endpoints++
	r.publish()
	return &Endpoint{port: r, remote: remote, part: func(bool) { r.part(remote) }}, nil
}

// Join takes a share in the port for a connection that came in.
func (r *Reservation) Join() (*Endpoint, error) { return r.join(netip.AddrPort{}) }

// Join takes another share in the port, for a connection that came in.
func (e *Endpoint) Join() (*Endpoint, error) { return e.port.Join() }

// AddrPort returns the local address with the port.
func (e *Endpoint) AddrPort() netip.AddrPort { return e.port.AddrPort() }

// Keep makes the port go with the last endpoint, as the connection that e stands for now exists.
// Forgo, if not nil, has the device give back what it keeps of the connection after its end, as
// transport.Forgoer does.
func (e *Endpoint) Keep(forgo func() bool) {
	e.port.mu.Lock()
	defer e.port.mu.Unlock()
	if e.port.became != Listening {
		e.port.spent = true
	}
	if _, ok := e.port.remotes[e.remote]; ok {
		e.port.remotes[e.remote] = forgo
	}
}

// mayGoAgain reports whether the port may be given to the next connection to the same remote.
func (e *Endpoint) mayGoAgain() bool {
	e.port.mu.Lock()
	defer e.port.mu.Unlock()
	return e.port.kept || e.port.remotes[e.remote] != nil
}

// Leave gives the share back. It can be called more than once. again says that another connection
// to the same remote may have the port at once; then a port that was chosen for a connection is
// held for a moment, in case there is one.
func (e *Endpoint) Leave(again bool) {
	e.once.Do(func() { e.part(again) })
}

// Listened records whether a device listens on the port.
func (e *Endpoint) Listened(on bool) {
	r := e.port
	r.mu.Lock()
	defer r.mu.Unlock()
	r.device = on
	r.publish()
}

// holds reports whether the reservation has a socket that is only bound.
func (r *Reservation) holds() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.socket != nil
}

// part undoes a join.
func (r *Reservation) part(remote netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.remotes, remote)
	r.endpoints--
	r.publish()
	_ = r.settle()
}

// ClosePatience bounds the wait for the end of an Accept on a socket that another process has made
// blocking. Such an Accept ends with the next client.
const ClosePatience = 100 * time.Millisecond

// Unlisten closes l, which was made of the reservation's socket. While there are endpoints the port
// stays held: by a socket that does not listen or, where other processes may have the socket as
// well, by that socket as it is.
func (r *Reservation) Unlisten(l *net.TCPListener) error {
	shared, err := r.retire(l)
	if !shared {
		err = errors.Join(err, l.Close())
	} else {
		_ = bound.Unblock(l) // or else it may take one more client to close
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		wait := time.NewTimer(ClosePatience)
		defer wait.Stop()
		select {
		case cerr := <-closed:
			err = errors.Join(err, cerr)
		case <-wait.C:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.settle()
	return err
}

// retire takes the port from l, which is about to be closed.
func (r *Reservation) retire(l *net.TCPListener) (shared bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent, r.lives = true, nil
	if r.endpoints == 0 {
		return r.shared, nil
	}
	hold := bound.Mute
	if r.shared {
		hold = bound.CopyOf
	}
	s, err := hold(l)
	if errors.Is(err, errors.ErrUnsupported) {
		return r.shared, nil // as Limits says
	}
	if err != nil {
		return r.shared, err
	}
	r.socket, r.listens = s, r.shared
	r.publish()
	return r.shared, nil
}

// openness returns a function that reports whether c is still open, and does not keep c alive.
func openness[T any, P interface {
	*T
	syscall.Conn
}](c P) func() bool {
	w := weak.Make((*T)(c))
	return func() bool {
		c := P(w.Value())
		if c == nil {
			return false
		}
		rc, err := c.SyscallConn()
		return err == nil && rc.Control(func(uintptr) {}) == nil
	}
}
