package iwarp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"weak"

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
	pushes    bool            // the listener hands on requests itself
	down      atomic.Bool
	gone      map[string]bool // those of devices that have gone; guarded by listening.devMu
}

// listenDevices makes the devices listen. Those whose connections are not TCP use the port that the
// kernel's listener holds, too; iWARP devices have another. A device that can do neither is left
// out: the kernel's listener serves its clients.
func (l *Listener) listenDevices(ctx context.Context) error {
	for _, t := range l.transports {
		devices, err := t.Devices()
		if err == nil {
			err = l.listenOn(ctx, t, devices)
		}
		switch {
		case errors.Is(err, errDevicePort):
			l.stopDevices()
			l.leaveDevices()
			return err
		case err != nil:
			l.whyNone = err
		}
	}
	return nil
}

// listenOn makes devices of a transport listen. The error, which is of one of them, matches
// errDevicePort if the port is taken.
func (l *Listener) listenOn(ctx context.Context, t transport.Transport, devices []transport.Device) error {
	local := netaddr.Of(l.tcp.Addr())
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
	var err, failed error
	if len(same) > 0 {
		if err = l.listenSame(ctx, t, same, local); errors.Is(err, errDevicePort) {
			return err
		}
	}
	if len(beside) > 0 {
		failed = l.listenBeside(ctx, t, beside, local.Addr())
	}
	return cmp.Or(failed, err)
}

// add adds a listener, unless all have been stopped.
func (h *listening) add(d *deviceListener) {
	h.devMu.Lock()
	stopped := h.stopped
	if !stopped {
		live := slices.DeleteFunc(slices.Clone(h.devices), func(d *deviceListener) bool { return d.down.Load() })
		h.devices = append(live, d)
	}
	h.devMu.Unlock()
	if stopped {
		_ = d.Close()
		d.ended()
	}
}

// deviceList returns the listeners, none of which is changed.
func (h *listening) deviceList() []*deviceListener {
	h.devMu.Lock()
	defer h.devMu.Unlock()
	return h.devices
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
		l.explainRefusals(d)
		dl := &deviceListener{Listener: d, transport: t, devices: devices}
		l.bePushed(dl)
		l.add(dl)
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: %w", errDevicePort, err)
	}
	return err
}

// listenBeside makes iWARP devices listen on a port of their own, which the listener, and each
// connection, holds for as long as it lives.
func (l *Listener) listenBeside(ctx context.Context, t transport.Transport, devices []transport.Device, local netip.Addr) (err error) {
	o := l.deviceOptions(devices)
	admits := slices.ContainsFunc(devices, func(d transport.Device) bool { return d.KernelPorts })
	ps := l.config.PortSpace.or()
	for range listenTries {
		var held *ports.Endpoint
		held, err = ps.engine.HoldNew(ctx, l.network, local, strings.Join(o.Devices, ","), ps.Control)
		if err != nil {
			return public(err)
		}
		d := &deviceListener{transport: t, devices: devices, port: held}
		if d.Listener, err = listenAdmitted(ctx, t, held, admits, o); err == nil {
			held.Listened(true)
			l.explainRefusals(d.Listener)
			l.add(d)
			return nil
		}
		defer d.port.Leave(false) // no sooner, or the next try would get the same port
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
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

// explainRefusals has the clients of a device that find no room know that.
func (l *Listener) explainRefusals(d transport.Listener) {
	r, ok := d.(transport.Refuser)
	if !ok {
		return
	}
	self := weak.Make(l)
	r.SetRefusal(func(remote netip.AddrPort, request []byte) []byte {
		if l := self.Value(); l != nil {
			return l.refuseSurplus(remote, request)
		}
		return nil
	})
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
		d.port.Leave(false)
	}
}

// stopDevices ends the listeners. Whatever serves them gives their ports back, once all requests
// have a share.
func (h *listening) stopDevices() {
	h.devMu.Lock()
	h.stopped = true
	list := h.devices
	h.devMu.Unlock()
	for _, d := range list {
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

// watchDevices has the listener look for devices whenever some may have come.
func (l *Listener) watchDevices() {
	self := l.self
	for _, t := range l.transports {
		if w, ok := t.(transport.DeviceWatcher); ok {
			l.unwatch = append(l.unwatch, w.WatchDevices(func() {
				if l := self.Value(); l != nil {
					l.findDevices()
				}
			}))
		}
	}
}

// findDevices makes devices listen that have come since the listener began. Where only devices were
// asked for, and no iWARP device was there then, those stay left out: the kernel's listener has
// nothing to redirect with.
func (l *Listener) findDevices() {
	select {
	case l.finding <- struct{}{}:
		defer func() { <-l.finding }()
	case <-l.ctx.Done():
	}
	if l.ctx.Err() != nil {
		return
	}
	found := false
	for _, t := range l.transports {
		present, err := t.Devices()
		if err != nil {
			continue
		}
		l.noteGone(t, present)
		var came []transport.Device
		for _, d := range present {
			if !l.listensOn(t, d.Name) && (!d.IWARP || l.kernel != nil) {
				came = append(came, d)
			}
		}
		if len(came) > 0 {
			_ = l.listenOn(l.ctx, t, came) // those that cannot listen now are tried again
			found = true
		}
	}
	if !found {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls > 0 && l.state == listens {
		l.serveDevices()
	}
}

// noteGone records which devices of a transport are not there any more: if they come back, they
// have lost what listened on them.
func (h *listening) noteGone(t transport.Transport, present []transport.Device) {
	h.devMu.Lock()
	defer h.devMu.Unlock()
	for _, d := range h.devices {
		if d.transport != t {
			continue
		}
		for _, dev := range d.devices {
			if !slices.ContainsFunc(present, func(p transport.Device) bool { return p.Name == dev.Name }) {
				if d.gone == nil {
					d.gone = make(map[string]bool)
				}
				d.gone[dev.Name] = true
			}
		}
	}
}

// isGone reports whether d has lost what listened on the device.
func (h *listening) isGone(d *deviceListener, name string) bool {
	h.devMu.Lock()
	defer h.devMu.Unlock()
	return d.gone[name]
}

// listensOn reports whether the device of a transport listens.
func (h *listening) listensOn(t transport.Transport, name string) bool {
	for _, d := range h.deviceList() {
		if d.transport != t || d.down.Load() || h.isGone(d, name) {
			continue
		}
		if slices.ContainsFunc(d.devices, func(dev transport.Device) bool { return dev.Name == name }) {
			return true
		}
	}
	return false
}
