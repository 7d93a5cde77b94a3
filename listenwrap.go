package iwarp

import (
	"context"
	"net"
	"syscall"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/ports"
)

// Wrap makes a Listener of one of package net, such as systemd, tableflip or a server's hand-over
// give, which net.FileListener has made of a descriptor. It takes l over: clients that wait there
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
	policy, err := lc.policy(network)
	if err != nil {
		return nil, err
	}
	f, err := bound.ListenerFile(l)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	r, err := lc.PortSpace.or().engine.Adopt(f)
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
	_ = l.Close() // which has no other error than that it is closed
	return wrapped, nil
}
