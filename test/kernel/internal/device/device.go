// Package device makes streams over the RDMA devices of a host for the programs of the tests,
// without the front door: on the very port that is asked for, whatever the kernel's sockets have
// there.
package device

import (
	"context"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport/rnic"
)

// Poll is the rnic.Config.Poll of connections.
var Poll time.Duration

func transport() *rnic.Transport { return rnic.New(&rnic.Config{Poll: Poll}) }

// Dial connects to the address.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	remote, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	k, err := transport().Dial(ctx, netip.AddrPort{}, remote, nil)
	if err != nil {
		return nil, err
	}
	return rdmanet.Client(ctx, k, nil)
}

// Listen returns what accepts connections on the address, and what ends that.
func Listen(ctx context.Context, address string) (accept func() (net.Conn, error), stop func(), err error) {
	local, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, nil, err
	}
	l, err := transport().Listen(ctx, local, nil)
	if err != nil {
		return nil, nil, err
	}
	log.Printf("listening on %s", l.Addr())
	accept = func() (net.Conn, error) {
		r, err := l.Accept(ctx)
		if err != nil {
			return nil, err
		}
		return rdmanet.Server(ctx, r, nil)
	}
	return accept, func() { _ = l.Close() }, nil
}

// Connect dials to server, or else takes one connection on bind.
func Connect(ctx context.Context, server, bind, port string) (net.Conn, error) {
	if server != "" {
		return Dial(ctx, net.JoinHostPort(server, port))
	}
	accept, stop, err := Listen(ctx, net.JoinHostPort(bind, port))
	if err != nil {
		return nil, err
	}
	defer stop()
	return accept()
}
