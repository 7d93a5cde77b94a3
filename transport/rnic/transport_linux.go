//go:build amd64 || arm64

package rnic

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// A Transport reaches peers through the RDMA devices of this machine.
type Transport struct {
	cfg     Config
	devices deviceCache

	mu sync.Mutex
	ch *eventChannel // nil while nothing needs it
}

var _ transport.Transport = (*Transport)(nil)

// New returns a Transport with the given configuration, which is copied. A nil c means the
// defaults.
func New(c *Config) *Transport { return &Transport{cfg: c.withDefaults()} }

// Name returns "rnic".
func (t *Transport) Name() string { return transportName }

// Offloads returns true: the connections do not use the kernel's TCP, except those of siw.
func (t *Transport) Offloads() bool { return true }

// Devices returns the active ports of RDMA devices that belong to a network interface. It is an
// *UnavailableError if there are some, but they cannot be used.
func (t *Transport) Devices() ([]transport.Device, error) {
	list, err := t.devices.list()
	if err != nil {
		return nil, err
	}
	devices := make([]transport.Device, len(list))
	for i, d := range list {
		devices[i] = d.Device
	}
	return devices, nil
}

// channel returns the event channel, and counts the caller in: it must leave.
func (t *Transport) channel() (*eventChannel, error) {
	lib, err := load()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ch == nil {
		if t.ch, err = newEventChannel(lib, &t.mu, func() { t.ch = nil }); err != nil {
			t.ch = nil
			return nil, err
		}
	}
	t.ch.n++
	return t.ch, nil
}

func (t *Transport) newID() (*cmID, error) {
	ch, err := t.channel()
	if err != nil {
		return nil, err
	}
	defer ch.leave()
	id, err := ch.newID()
	if err == nil && t.cfg.TOS != 0 {
		if err = id.set(abi.OptionIDTOS, int32(t.cfg.TOS), 1); err != nil {
			id.destroy()
			return nil, err
		}
	}
	return id, err
}

// Route returns the device through which the host's routes lead to remote, with the address that
// connections come from first. There is none for the host's loopback addresses.
func (t *Transport) Route(ctx context.Context, local, remote netip.AddrPort) (transport.Device, error) {
	id, dev, err := t.resolve(ctx, netip.AddrPortFrom(local.Addr(), 0), remote)
	if err != nil {
		return transport.Device{}, err
	}
	defer id.destroy()
	d := dev.Device
	// The address that connections come from is the first of its kind.
	source := id.localAddr().Addr()
	d.Addrs = slices.DeleteFunc(slices.Clone(d.Addrs), func(a netip.Addr) bool { return a == source })
	if source.IsValid() {
		d.Addrs = append([]netip.Addr{source}, d.Addrs...)
	}
	return d, nil
}

// Dial implements transport.Transport. Its errors match transport.ErrNoDevice or ErrNoRoute where
// remote cannot be reached through a device.
func (t *Transport) Dial(ctx context.Context, local, remote netip.AddrPort, o *transport.Options) (transport.Connector, error) {
	id, dev, err := t.resolve(ctx, local, remote)
	if err != nil {
		return nil, err
	}
	q, err := newQueuePair(t, id, dev, o)
	if err != nil {
		id.destroy()
		return nil, err
	}
	return &connector{q: q}, nil
}

// resolve makes an ID that is bound to the device that reaches remote.
func (t *Transport) resolve(ctx context.Context, local, remote netip.AddrPort) (*cmID, *device, error) {
	if remote.Addr().IsLoopback() || remote.Addr().IsUnspecified() || local.Addr().IsLoopback() {
		// They are this host itself, for which rdma_cm would take any device that can loop back,
		// whose listener is not the host's alone.
		return nil, nil, &routeError{remote, errLoopback}
	}
	id, err := t.newID()
	if err != nil {
		return nil, nil, err
	}
	dev, err := t.resolveID(ctx, id, local, remote)
	if err != nil {
		id.destroy()
		return nil, nil, err
	}
	return id, dev, nil
}

func (t *Transport) resolveID(ctx context.Context, id *cmID, local, remote netip.AddrPort) (*device, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if local.Addr().IsValid() || local.Port() != 0 {
		if !local.Addr().IsValid() {
			local = netip.AddrPortFrom(anyAddr(remote.Addr()), local.Port())
		}
		// Several connections may come from a port, to different peers, as with sockets.
		if err := id.set(abi.OptionIDReuseAddr, 1, 4); err != nil {
			return nil, err
		}
		if err := t.bind(id, local); err != nil {
			if errors.Is(err, syscall.ENODEV) {
				err = &routeError{remote, err}
			}
			return nil, err
		}
	}
	s := getScratch()
	putSockaddr(&s.addr, remote)
	err := id.ch.lib.call("rdma_resolve_addr", id.ch.lib.rdmaResolveAddr, id.ptr, 0, ptr(&s.addr), resolveMillis)
	s.release()
	if err == nil {
		err = id.resolved(ctx, "rdma_resolve_addr")
	}
	if err == nil {
		err = id.ch.lib.call("rdma_resolve_route", id.ch.lib.rdmaResolveRoute, id.ptr, resolveMillis)
		if err == nil {
			err = id.resolved(ctx, "rdma_resolve_route")
		}
	}
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.ENOMEM):
		return nil, err
	default:
		return nil, &routeError{remote, err}
	}
	id.attach()
	dev, err := t.devices.of(id.device())
	if err == nil && !dev.serves(remote.Addr()) {
		return nil, &routeError{remote, syscall.EAFNOSUPPORT}
	}
	return dev, err
}

// resolveMillis is how long the kernel tries to find a neighbour, and then a path. Contexts are
// shorter.
const resolveMillis = 10_000

// bind gives an ID a local address. For a port that is taken at all addresses, or at one while this
// asks for all, rdma_cm says that the address is not available.
func (t *Transport) bind(id *cmID, local netip.AddrPort) error {
	err := id.bind(local)
	if errors.Is(err, syscall.ENODEV) && t.devices.serve(local.Addr()) {
		return &UnavailableError{NoProvider, err}
	}
	if local.Port() != 0 && errors.Is(err, syscall.EADDRNOTAVAIL) && (local.Addr().IsUnspecified() || t.devices.serve(local.Addr())) {
		err = os.NewSyscallError("rdma_bind_addr", syscall.EADDRINUSE)
	}
	return err
}

func (id *cmID) resolved(ctx context.Context, what string) error {
	ev, err := id.reply(ctx)
	switch {
	case err != nil:
	case ev.status == -1: // of librdmacm, not of the kernel, whose errors these are else
		err = &UnavailableError{NoProvider, errNotOpened}
	case ev.status != 0:
		err = os.NewSyscallError(what, errnoOf(ev.status))
	}
	return err
}

// errnoOf is the error of an event's status, which is negative for a system's error.
func errnoOf(status int32) error {
	if status < 0 {
		status = -status
	}
	return syscall.Errno(status)
}

func anyAddr(like netip.Addr) netip.Addr {
	if like.Unmap().Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
