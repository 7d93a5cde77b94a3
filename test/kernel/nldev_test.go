//go:build linux

package kernel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of transport/rnic's netlink client with devices: siw, and rxe for as long as they run.
func TestNLDev(t *testing.T) {
	g := theGuest(t)
	g.run(t, "rdma", "link", "add", "rxe9", "type", "rxe", "netdev", "eth0")
	defer g.run(t, "rdma", "link", "delete", "rxe9")
	out := g.run(t, "nldev.test", "-test.v", "-test.run=^Test(Links|Unprivileged|Resources|KernelWithoutRDMA)$")
	for _, device := range []string{"Device:siw0 ", "Device:siw1 ", "Device:rxe9 ", "siw1: {", "rxe9: {"} {
		require.Contains(t, out, device)
	}
	require.NotContains(t, out, "--- SKIP")
}
