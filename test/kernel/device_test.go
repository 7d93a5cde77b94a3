//go:build linux

package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// A hca is a device of the guest that programs of ours use through transport/rnic.
type hca struct {
	name                 string // of the driver
	addr, device, netdev string
	unload, load         string // take the driver's module away, and bring it and its devices back
}

// leftAlone is what a client of OffloadAuto says of siw and rxe, which are in software.
const leftAlone = "plain TCP .reason: no rdma device"

// hcas returns the devices: siw, which is iWARP on sockets of the kernel, and rxe, which is RoCE
// and has a port space of its own, as hardware has.
func hcas(t *testing.T, g *guest) []hca {
	siw := hca{
		name: "siw", addr: vethAddr, device: "siw2", netdev: "veth0",
		unload: "for d in $(rdma link show | grep -o 'siw[0-9]'); do rdma link delete $d; done; rmmod siw",
		load: `modprobe siw; rdma link add siw0 type siw netdev lo; rdma link add siw1 type siw netdev eth0
			` + vethDevice + `
			[ ! -e /sys/class/net/eth1 ] || ` + linkDevice,
	}
	rxe := hca{
		name: "rxe", addr: rxeAddr, device: "rxe0", netdev: "dummy0",
		unload: "rdma link delete rxe0; rmmod rdma_rxe", load: "modprobe rdma_rxe; rdma link add rxe0 type rxe netdev dummy0",
	}
	g.run(t, "sh", "-ec", `
		rdma link show rxe0/1 >/dev/null 2>&1 && exit
		ip addr add `+rxe.addr+`/24 dev dummy0
		ip link set dummy0 up
		`+rxe.add())
	return []hca{siw, rxe}
}

func (h hca) add() string {
	return "rdma link add " + h.device + " type " + h.name + " netdev " + h.netdev
}

// pair is a place for two ends on the device.
func (h hca) pair(g *guest) pair {
	return pair{ours: &g.place, addr: h.addr, port: g.port()}
}

// ends starts a server and then a client, one of them ours and one in C.
func (h hca) ends(t *testing.T, g *guest, p pair, goServes bool, ours, theirs func(server bool) []string) (goEnd, cEnd *agent.Process) {
	t.Helper()
	if goServes {
		goEnd = g.start(t, ours(true)...)
		require.NoError(t, goEnd.WaitOutput("listening on"))
		return goEnd, g.start(t, again(theirs(false))...)
	}
	cEnd = g.start(t, theirs(true)...)
	h.await(t, g, cEnd, p)
	return g.start(t, ours(false)...), cEnd
}

// await waits until a program listens on the device.
func (h hca) await(t *testing.T, g *guest, server *agent.Process, p pair) {
	t.Helper()
	g.awaitCM(t, server, p.addr+":"+p.port)
}

// The tests of transport/rnic on the guest's devices, net.Conn's contract five times.
func TestDevicePackage(t *testing.T) {
	g := theGuest(t)
	hcas(t, g)
	const others = "/siw[023]$|//siw[023]$" // the same driver on other interfaces
	rest := []string{"-test.skip=^TestConn$|" + others}
	if !*fullFlag {
		rest = append(rest, "-test.short")
	}
	for name, args := range map[string][]string{"net.Conn, 5 times": {"-test.run=^TestConn$", "-test.count=5", "-test.skip=" + others}, "the rest": rest} {
		t.Run(name, func(t *testing.T) {
			record(t, cell{"package rnic", "both ends", "siw and rxe", name})
			out := succeeds(t, g.startFor(t, 12*time.Minute, append([]string{"rnic.test", "-test.v", "-test.timeout=11m"}, args...)...))
			for _, device := range []string{"/siw1 ", "/rxe0 "} {
				require.Contains(t, out, device)
			}
			require.Contains(t, out, "\nPASS")
			g.healthy(t) // some of them have siw send a Terminate
		})
	}
}

// librdmacm's programs on a device and ours on the same device: streams, memory that the other end
// writes into, and verbs.
func TestDevicePeers(t *testing.T) {
	g := theGuest(t)
	for _, h := range hcas(t, g) {
		for _, goServes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/go=%s", h.name, roleName(goServes)), func(t *testing.T) {
				if h.name != "siw" { // no iWARP to decode
					h.peers(t, g, goServes, make(expected))
					return
				}
				g.captured(t, "lo", func(t *testing.T, want expected) { h.peers(t, g, goServes, want) })
			})
		}
	}
	awaitDecodings(t)
}

// peers runs all programs with one of ours in the role.
func (h hca) peers(t *testing.T, g *guest, goServes bool, want expected) {
	try := func(name, peer string, s session, ours, theirs func(p pair, server bool) []string) {
		t.Run(name, func(t *testing.T) {
			record(t, cell{fmt.Sprintf("%s (%s)", peer, h.name), roleName(goServes), "the same device", "through transport/rnic"})
			p := h.pair(g)
			want.add(t, p, s)
			goEnd, cEnd := h.ends(t, g, p, goServes,
				func(server bool) []string { return ours(p, server) },
				func(server bool) []string { return theirs(p, server) })
			succeeds(t, goEnd)
			succeeds(t, cEnd)
			g.noTerminate(t)
		})
	}
	stream := session{rev: 2, stream: true}
	for _, x := range append(slices.Clone(quickXfers), xfers[len(xfers)-1]) {
		try("rstream/"+x.String(), "rstream", stream,
			func(p pair, server bool) []string {
				return slices.Concat([]string{"go-rstream", "-rnic", "-verify"}, x.common(), x.where(p, server))
			}, x.theirs)
	}
	for _, d := range directs {
		try(fmt.Sprintf("riostream/%dx%dx%d", d.size, d.count, d.iterations), "riostream", stream,
			func(p pair, server bool) []string {
				return slices.Insert(d.ours(p, server, everyMPA[0]), 1, "-rnic")
			}, d.theirs)
	}
	for _, size := range []int{26, 64, 1000, 65535} {
		try("rping/"+strconv.Itoa(size), "rping", session{rev: 2},
			func(p pair, server bool) []string {
				return append([]string{"go-rping", "-rnic"}, rpingArgs(p, server, size)...)
			},
			func(p pair, server bool) []string { return append([]string{"rping"}, rpingArgs(p, server, size)...) })
	}
}
