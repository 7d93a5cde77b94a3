package iwarp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/rdmanet/iwarp/transport"
)

// errDevicePort means that a port which the kernel chose is taken on a device.
var errDevicePort = errors.New("port is taken on a device")

// deviceListener is the listener of a transport that does not work on the kernel's connections.
type deviceListener struct {
	transport.Listener
	info Info // of its connections
}

// holdingRequest gives the queue pair of a connection that came in through a device a share in the listener's port.
type holdingRequest struct {
	transport.Request
	qp transport.QueuePair
}

func (r holdingRequest) QueuePair() transport.QueuePair { return r.qp }

// holdingPort has what comes of r hold the listener's port. After a failure of the connection it must be told by the endpoint's leave.
func (l *Listener) holdingPort(r transport.Request) (transport.Request, *endpoint) {
	if l.port == nil {
		return r, nil
	}
	e, err := l.port.join(netip.AddrPort{})
	if err != nil {
		return r, nil // the listener is closed
	}
	return holdingRequest{r, holdPort(r.QueuePair(), e)}, e
}

// listenDevices makes the devices listen on the port that the kernel's listener holds. A device without ports of its own
// is left out: the kernel's listener serves its clients.
func (l *Listener) listenDevices(ctx context.Context, list []transport.Transport) error {
	local := unmap(l.tcp.Addr().(*net.TCPAddr).AddrPort())
	for _, t := range list {
		devices, err := t.Devices()
		if err != nil || !ownPorts(devices, local.Addr()) {
			continue
		}
		d, err := t.Listen(ctx, local, nil)
		switch {
		case err == nil:
			l.devices = append(l.devices, deviceListener{d, Info{Transport: t.Name(), Offloaded: t.Offloads()}})
		case errors.Is(err, syscall.EADDRINUSE):
			for _, d := range l.devices {
				_ = d.Close()
			}
			return fmt.Errorf("%w: %w", errDevicePort, err)
		}
	}
	return nil
}

func ownPorts(devices []transport.Device, local netip.Addr) bool {
	for _, d := range devices {
		if !d.OwnPorts {
			continue
		}
		if local.IsUnspecified() || len(d.Addrs) == 0 {
			return true
		}
		for _, a := range d.Addrs {
			if a.Unmap() == local {
				return true
			}
		}
	}
	return false
}
