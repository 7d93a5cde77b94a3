//go:build amd64 || arm64

package rnic

import (
	"github.com/rdmanet/iwarp/internal/nldev"
	"github.com/rdmanet/iwarp/transport"
)

// describe returns the device without its addresses.
func describe(l *nldev.Link) *device {
	t := l.Traits()
	return &device{
		Device: transport.Device{
			Name: l.Device, Transport: transportName, NetDev: l.NetDev,
			OwnPorts: !t.KernelPorts, KernelPorts: t.KernelPorts, InSoftware: t.InSoftware,
			IWARP: l.Node == nldev.NodeRNIC,
		},
		siw: l.Driver == nldev.DriverSIW, onlyIPv4: t.OnlyIPv4,
	}
}
