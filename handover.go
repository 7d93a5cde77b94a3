package iwarp

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/guard"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/ports"
)

// File returns a copy of the kernel's listening socket, for a process that takes over: there Adopt
// and Listen go on with the port and with the clients that wait, and none is refused in between.
// Devices' clients are not handed over: the other process listens for them once this Listener is
// closed. Close does not stop the copy. The copy is non-blocking, and stays so after a call of its
// Fd, in which it differs from that of a *net.TCPListener: a socket that blocks does so in all
// processes, and a call of Accept under way here could neither be closed nor time out. After Drain
// and Close the error matches net.ErrClosed, on Windows errors.ErrUnsupported.
func (l *Listener) File() (*os.File, error) {
	if !l.ok() {
		return nil, syscall.EINVAL
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != listens { // when Drain may have the socket refuse clients
		return nil, l.fail("file", net.ErrClosed)
	}
	f, err := l.port.ListenerFile(l.tcp)
	if err != nil {
		return nil, l.fail("file", neterr.Bare(err))
	}
	return f, nil
}

// Wrap makes a Listener of one of package net that net.FileListener has made of a descriptor, such
// as systemd, tableflip or a server's hand-over provides. It takes l over: clients that wait there
// are accepted by the Listener, and l is closed. After an error l is as it was.
//
// As the socket may belong to other processes as well, Close and Drain leave it to them, as after
// Listener.File. Control is not called. On Windows the error matches errors.ErrUnsupported.
func (lc *ListenConfig) Wrap(l *net.TCPListener) (*Listener, error) {
	const network = "tcp"
	fail := func(err error) (*Listener, error) {
		op := &net.OpError{Op: "listen", Net: network, Err: neterr.Bare(err)}
		if addr, ok := l.Addr().(*net.TCPAddr); ok {
			op.Addr = addr
		}
		return nil, op
	}
	if l == nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: syscall.EINVAL}
	}
	policy, err := lc.policy(context.Background(), network, l.Addr().String())
	if err != nil {
		return nil, err
	}
	r, err := lc.PortSpace.or().engine.AdoptListener(l)
	if err != nil {
		return fail(err)
	}
	wrapped, err := lc.listen(context.Background(), policy, network, func() (*net.TCPListener, *ports.Reservation, error) {
		t, err := r.Listen(nil, true)
		return t, r, public(err)
	})
	if err != nil {
		_ = r.Release()
		return fail(err)
	}
	_ = l.Close() // its only error would be that it is closed
	return wrapped, nil
}

const (
	// drainGrace is how long after Close calls of Accept get what a Drain has left, and how long Drain
	// takes clients where it cannot keep new ones away.
	drainGrace = time.Second
	// drainRetry is how long to wait for descriptors where they are short.
	drainRetry = 5 * time.Millisecond
	// drainPause without a client means the end of the queue.
	drainPause = 50 * time.Millisecond
)

// Drain stops taking clients, so that whoever has a File of the listener gets all that come from
// then on, and those that wait in the kernel's queue. Where nobody else has the socket, or is seen
// to have it any more, those in the queue are taken. For that it looks into other processes, and a
// File that this process has not closed counts as well; a socket from Inherit or Wrap is only taken
// for this process's alone if all processes of the host could be looked into.
//
// What is taken is identified, and Accept goes on returning it; then Accept returns net.ErrClosed.
// Drain waits until all are identified. Close must still be called; calls of Accept under way then,
// and in the second after, get what is left. If the context ends first, Drain closes the Listener
// and the error is that of the context.
func (l *Listener) Drain(ctx context.Context) error {
	if !l.ok() {
		return syscall.EINVAL
	}
	l.mu.Lock()
	if l.state != listens {
		l.mu.Unlock()
		return l.fail("drain", net.ErrClosed)
	}
	l.kick()
	l.state = draining
	l.counters.show(draining)
	l.calls++ // so that Close waits
	out := make(chan struct{})
	if l.accepting {
		l.out = out
	} else {
		close(out)
	}
	drained := make(chan struct{})
	l.drained = drained
	if l.idle != nil {
		l.idle()
	}
	l.mu.Unlock()
	var err error
	// What they have taken must be identified as well.
	if l.awaitCalls(out) && l.port.Regain(l.tcp) {
		err = l.takeQueue(ctx)
	}
	l.leave(false)
	if endErr := l.end(); err == nil {
		err = endErr
	}
	l.mu.Lock()
	l.taken = true
	l.settle()
	l.mu.Unlock()
	select {
	case <-drained:
		l.leaveDevices()
		return err
	case <-ctx.Done():
		_ = l.Close()
		return l.fail("drain", neterr.OfContext(ctx.Err()))
	}
}

// isShared reports whether other processes may have the socket as well. One of them may have made
// it blocking, so that a call in accept(2) cannot be called back.
func (l *Listener) isShared() bool { return l.port.IsShared() }

// takeQueue takes the clients in the kernel's queue, and those whose connection is being set up.
func (l *Listener) takeQueue(ctx context.Context) error {
	// The socket of a port that devices' connections hold may serve another listener later.
	// The filter would stay with a copy of the descriptor that somebody has made, or is to get.
	refuses := len(l.deviceList()) == 0 && !l.touched.Load() && !l.isShared() && guard.RefuseNew(l.tcp)
	for limit := time.Now().Add(drainGrace); ctx.Err() == nil && (refuses || time.Now().Before(limit)); {
		time.Sleep(l.half.room())
		_ = l.tcp.SetDeadline(time.Now().Add(drainPause))
		c, err := l.tcp.AcceptTCP()
		var t interface{ Temporary() bool }
		switch {
		case err == nil:
			l.deliver(l.sort(c))
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return nil
		case errors.As(err, &t) && t.Temporary():
			time.Sleep(drainRetry)
		default:
			return l.fail("drain", neterr.Bare(err))
		}
	}
	return nil
}

// settle tells Drain and Accept when nobody is on the way to ready any more. Its caller holds l.mu.
func (l *Listener) settle() {
	if !l.taken || l.coming() {
		return
	}
	if l.drained != nil {
		close(l.drained)
		l.drained = nil
	}
	l.kick()
}

// coming reports whether somebody is on the way to ready. Its caller holds l.mu.
func (l *Listener) coming() bool { return l.half.len() > 0 || len(l.serving) > 0 || l.pushed > 0 }
