package ports

import (
	"context"
	"net"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/netaddr"
)

// listenerOwner is the owner of the port of a listener that had no reservation.
const listenerOwner = "listener"

// Listen makes a listener at the address, of the reservation that exists there or else of a new
// one, which it returns as well.
func (sp *Space) Listen(ctx context.Context, network, address string, control bound.Control) (*net.TCPListener, *Reservation, error) {
	local, err := netaddr.LookupLocal(ctx, network, address)
	if err != nil {
		return nil, nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	r, err := sp.toListen(network, local, control)
	if err != nil {
		return nil, nil, &net.OpError{Op: "listen", Net: network, Addr: local, Err: err}
	}
	if r != nil {
		l, err := r.Listen(control, true)
		return l, r, err
	}
	r, err = sp.bind(ctx, local, control, &Reservation{network: network, owner: listenerOwner})
	if err != nil {
		err.(*net.OpError).Op = "listen"
		return nil, nil, err
	}
	l, err := r.Listen(nil, false)
	if err != nil {
		_ = r.Release()
		return nil, nil, err
	}
	return l, r, nil
}
