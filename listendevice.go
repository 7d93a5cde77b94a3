package iwarp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/ports"
	"github.com/rdmanet/iwarp/transport"
)

// errDevicePort means that a port which the kernel chose is taken on a device.
var errDevicePort = errors.New("port is taken on a device")

// deviceListener is the listener of those of a transport's devices that listen on the same port.
type deviceListener struct {
	transport.Listener
	transport transport.Transport
	devices   []transport.Device
	port      *ports.Endpoint // in the port that they have besides the service's, or nil if they listen on the service's
	down      atomic.Bool
}

// listenDevices makes the devices listen. Those whose connections are not TCP use the port that the
// kernel's listener holds, too; iWARP devices have another. A device that can do neither is left
// out: the kernel's listener serves its clients.
func (l *Listener) listenDevices(ctx context.Context, list []transport.Transport) error {
	local := netaddr.Of(l.tcp.Addr())
	for _, t := range list {
		devices, err := t.Devices()
		if err != nil {
			l.whyNone = err
			continue
		}
		var same, beside []transport.Device
		for _, d := range devices {
			switch {
			case !hasAddr(d, local.Addr()):
			case d.IWARP:
				beside = append(beside, d)
			case d.OwnPorts:
				same = append(same, d)
			}
		}
		if len(same) > 0 {
			if err := l.listenSame(ctx, t, same, local); err != nil {
				l.stopDevices()
				for _, d := range l.devices {
					d.ended()
				}
				return err
			}
		}
		if len(beside) > 0 {
			l.listenBeside(ctx, t, beside, local.Addr())
		}
	}
	return nil
}

// hasAddr reports whether d has the address, or any if that is a wildcard.
func hasAddr(d transport.Device, local netip.Addr) bool {
	return local.IsUnspecified() || len(d.Addrs) == 0 || slices.ContainsFunc(d.Addrs, func(a netip.Addr) bool {
		return a.Unmap().WithZone("") == local.WithZone("")
	})
}

func (l *Listener) listenSame(ctx context.Context, t transport.Transport, devices []transport.Device, local netip.AddrPort) error {
	d, err := t.Listen(ctx, local, l.deviceOptions(devices))
	switch {
	case err == nil:
		l.devices = append(l.devices, &deviceListener{Listener: d, transport: t, devices: devices})
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: %w", errDevicePort, err)
	default:
		l.whyNone = err
	}
	return nil
}

// listenBeside makes iWARP devices listen on a port of their own, which the listener, and each
// connection, holds for as long as it lives.
func (l *Listener) listenBeside(ctx context.Context, t transport.Transport, devices []transport.Device, local netip.Addr) {
	o := l.deviceOptions(devices)
	admits := slices.ContainsFunc(devices, func(d transport.Device) bool { return d.KernelPorts })
	ps := l.config.PortSpace.or()
	for range listenTries {
		held, err := ps.engine.HoldNew(ctx, l.network, local, strings.Join(o.Devices, ","), ps.Control)
		if err != nil {
			l.whyNone = public(err)
			return
		}
		d := &deviceListener{transport: t, devices: devices, port: held}
		if d.Listener, err = listenAdmitted(ctx, t, held, admits, o); err == nil {
			held.Listened(true)
			l.devices = append(l.devices, d)
			return
		}
		l.whyNone = err
		defer d.port.Leave() // no sooner, or the next try would get the same port
		if !errors.Is(err, syscall.EADDRINUSE) {
			return
		}
	}
}

// listenAdmitted makes a transport listen on the held port, which meanwhile is open to the device's
// own socket if admits is true.
func listenAdmitted(ctx context.Context, t transport.Transport, held *ports.Endpoint, admits bool, o *transport.Options) (transport.Listener, error) {
	if admits {
		shut, err := held.Admit()
		if err != nil {
			return nil, err
		}
		defer shut()
	}
	return t.Listen(ctx, held.AddrPort(), o)
}

func (l *Listener) deviceOptions(devices []transport.Device) *transport.Options {
	o := &transport.Options{OnlyIPv6: l.network == "tcp6"}
	for _, d := range devices {
		o.Devices = append(o.Devices, d.Name)
	}
	return o
}

// ended gives the port back, unless connections use it.
func (d *deviceListener) ended() {
	d.down.Store(true)
	if d.port != nil {
		d.port.Listened(false)
		d.port.Leave()
	}
}

// stopDevices ends the listeners. Whatever serves them gives their ports back, once all requests
// have a share.
func (h *listening) stopDevices() {
	for _, d := range h.devices {
		d.down.Store(true)
		_ = d.Close()
	}
}

// info describes the connections that come in through the device.
func (d *deviceListener) info(device string) Info {
	info := Info{Transport: d.transport.Name(), Device: device, Offloaded: d.transport.Offloads()}
	if d.port != nil {
		info.RedirectPort = d.port.AddrPort().Port()
	}
	for _, dev := range d.devices {
		if dev.Name == device {
			info.Offloaded = bypassesKernel(d.transport, dev)
		}
	}
	return info
}
