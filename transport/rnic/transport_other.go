//go:build !linux || (!amd64 && !arm64)

package rnic

import (
	"context"
	"net/netip"

	"github.com/rdmanet/iwarp/transport"
)

// A Transport has no device on this system.
type Transport struct{}

var _ transport.Transport = (*Transport)(nil)

var errSystem = &UnavailableError{Cause: NoSystem}

// New returns a Transport.
func New(*Config) *Transport { return &Transport{} }

// Name returns "rnic".
func (t *Transport) Name() string { return transportName }

// Offloads returns true.
func (t *Transport) Offloads() bool { return true }

// Devices returns none.
func (t *Transport) Devices() ([]transport.Device, error) { return nil, nil }

// Route returns an *UnavailableError.
func (t *Transport) Route(context.Context, netip.AddrPort, netip.AddrPort) (transport.Device, error) {
	return transport.Device{}, errSystem
}

// Dial returns an *UnavailableError.
func (t *Transport) Dial(context.Context, netip.AddrPort, netip.AddrPort, *transport.Options) (transport.Connector, error) {
	return nil, errSystem
}

// Listen returns an *UnavailableError.
func (t *Transport) Listen(context.Context, netip.AddrPort, *transport.Options) (transport.Listener, error) {
	return nil, errSystem
}
