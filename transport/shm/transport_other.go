//go:build !linux

package shm

import (
	"context"
	"net/netip"

	"github.com/rdmanet/iwarp/transport"
)

// A Transport has no device on this system.
type Transport struct{}

var _ transport.Transport = (*Transport)(nil)

// New returns a Transport.
func New(*Config) *Transport { return &Transport{} }

// Name returns "shm".
func (t *Transport) Name() string { return transportName }

// Offloads returns true.
func (t *Transport) Offloads() bool { return true }

// Devices returns none.
func (t *Transport) Devices() ([]transport.Device, error) { return nil, nil }

// Route returns transport.ErrNoDevice.
func (t *Transport) Route(context.Context, netip.AddrPort, netip.AddrPort) (transport.Device, error) {
	return transport.Device{}, transport.ErrNoDevice
}

// Dial returns transport.ErrNoDevice.
func (t *Transport) Dial(context.Context, netip.AddrPort, netip.AddrPort, *transport.Options) (transport.Connector, error) {
	return nil, transport.ErrNoDevice
}

// Listen returns transport.ErrNoDevice.
func (t *Transport) Listen(context.Context, netip.AddrPort, *transport.Options) (transport.Listener, error) {
	return nil, transport.ErrNoDevice
}
