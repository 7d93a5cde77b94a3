//go:build linux

package kernel

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of transport/rnic's netlink client with devices: siw, and rxe for as long as they run.
func TestNLDev(t *testing.T) {
	g := theGuest(t)
	g.run(t, "rdma", "link", "add", "rxe9", "type", "rxe", "netdev", "eth0")
	defer g.run(t, "rdma", "link", "delete", "rxe9")
	server := g.start(t, words("rping -s -P -a %s -p %s", guestAddr, g.port())...)
	defer server.Kill()
	eventually(t, server, func() bool { return strings.Contains(g.run(t, "rdma", "resource", "show", "cm_id"), guestAddr) })
	out := g.run(t, "nldev.test", "-test.v", "-test.run=^Test(Links|Unprivileged|Resources|Objects|KernelWithoutRDMA)$")
	for _, device := range []string{"Device:siw0 ", "Device:siw1 ", "Device:rxe9 ", "siw1: {", "rxe9: {", "siw1: [{"} {
		require.Contains(t, out, device)
	}
	require.NotContains(t, out, "--- SKIP")
}
