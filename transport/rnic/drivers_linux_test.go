//go:build amd64 || arm64

package rnic

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/nldev"
	"github.com/rdmanet/iwarp/transport"
)

// TestDriverTraits has each driver's devices described by what its code in the kernel does, and one
// that is not known as hardware with ports of its own.
func TestDriverTraits(t *testing.T) {
	const newest = 20 // a driver that is not in the table
	own := transport.Device{OwnPorts: true}
	ownIWARP := transport.Device{OwnPorts: true, IWARP: true}
	for _, tt := range []struct {
		name     string
		link     nldev.Link
		want     transport.Device
		onlyIPv4 bool
	}{
		{name: "siw", link: nldev.Link{Driver: nldev.DriverSIW, Node: nldev.NodeRNIC}, want: transport.Device{KernelPorts: true, InSoftware: true, IWARP: true}},
		{
			name: "erdma", link: nldev.Link{Driver: nldev.DriverERDMA, Node: nldev.NodeRNIC},
			want: transport.Device{KernelPorts: true, IWARP: true}, onlyIPv4: true,
		},
		{name: "erdma with RoCE", link: nldev.Link{Driver: nldev.DriverERDMA, Node: nldev.NodeCA}, want: own},
		{name: "cxgb4", link: nldev.Link{Driver: nldev.DriverCXGB4, Node: nldev.NodeRNIC}, want: ownIWARP},
		{name: "irdma", link: nldev.Link{Driver: nldev.DriverIRDMA, Node: nldev.NodeRNIC}, want: ownIWARP},
		{name: "irdma with RoCE", link: nldev.Link{Driver: nldev.DriverIRDMA, Node: nldev.NodeCA}, want: own},
		{name: "qedr", link: nldev.Link{Driver: nldev.DriverQEDR, Node: nldev.NodeRNIC}, want: ownIWARP},
		{name: "rxe", link: nldev.Link{Driver: nldev.DriverRXE, Node: nldev.NodeCA}, want: transport.Device{OwnPorts: true, InSoftware: true}},
		{name: "unknown", link: nldev.Link{Node: nldev.NodeRNIC}, want: ownIWARP},
		{name: "unknown, not iWARP", link: nldev.Link{Node: nldev.NodeCA}, want: own},
		{name: "newer", link: nldev.Link{Driver: newest, Node: nldev.NodeRNIC}, want: ownIWARP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.link.Device, tt.link.NetDev = "dev0", "eth0"
			tt.want.Name, tt.want.NetDev, tt.want.Transport = "dev0", "eth0", "rnic"
			d := describe(&tt.link)
			require.Equal(t, tt.want, d.Device)
			require.Equal(t, tt.link.Driver == nldev.DriverSIW, d.siw)
			require.True(t, d.serves(netip.MustParseAddr("192.0.2.1")))
			require.True(t, d.serves(netip.MustParseAddr("::ffff:192.0.2.1")))
			require.Equal(t, !tt.onlyIPv4, d.serves(netip.MustParseAddr("2001:db8::1")))
		})
	}
}
