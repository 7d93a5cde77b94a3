//go:build linux

package kernel

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// Addresses of the guest beside guestAddr. They are on lo, which siw serves under any address but 127.0.0.1 and ::1, on eth0, and
// on a link to a network namespace of the guest.
const (
	loAddr    = "10.7.0.1"
	ethAddr6  = "fd00::15"
	vethAddr  = "10.8.0.1"
	peerAddr  = "10.8.0.2" // in the namespace
	vethAddr6 = "fd00:8::1"
	peerAddr6 = "fd00:8::2"
	routeInit = "ip addr add " + loAddr + "/32 dev lo; ip -6 addr add " + ethAddr6 + `/64 dev eth0 nodad
		ip netns add peer
		ip link add veth0 type veth peer name veth1 netns peer
		ip addr add ` + vethAddr + "/24 dev veth0; ip -n peer addr add " + peerAddr + `/24 dev veth1
		ip -6 addr add ` + vethAddr6 + `/64 dev veth0 nodad; ip -n peer -6 addr add ` + peerAddr6 + `/64 dev veth1 nodad
		echo 1 >/proc/sys/net/ipv6/conf/veth0/keep_addr_on_down
		ip link set veth0 up; ip -n peer link set veth1 up; ip -n peer link set lo up
		rdma link add siw2 type siw netdev veth0`
)

// A route is a place of our end, and the way from there to the peer in the guest.
type route struct {
	name string
	ours *place
	addr string // the guest's
	own  string // our end's, as the guest sees it
	dev  string // of the guest
}

// routes returns all routes. The emulated network has no IPv6 between the host and the guest, and cuts the stream into
// segments of its own; between the guest and its namespace what is one segment stays one.
func routes(t *testing.T, g *guest) []route {
	t.Helper()
	host, err := theHost()
	require.NoError(t, err)
	peer := &place{name: "veth", Client: g.Client, prefix: []string{"ip", "netns", "exec", "peer"}}
	return []route{
		{"host", host, guestAddr, hostAddr, "eth0"},
		{"veth", peer, vethAddr, peerAddr, "veth0"},
		{"eth0", &g.place, guestAddr, guestAddr, "lo"},
		{"lo", &g.place, loAddr, loAddr, "lo"},
		{"eth0-v6", &g.place, ethAddr6, ethAddr6, "lo"},
		{"veth-v6", peer, vethAddr6, peerAddr6, "veth0"},
	}
}

// everyRoute, someRoutes and onIPv4 tell pairs what to leave out.
func everyRoute(route) string { return "" }

func someRoutes(r route) string {
	if r.name != "veth" && !*fullFlag {
		return "only with -full"
	}
	return ""
}

func onIPv4(r route) string {
	if r.v6() {
		return "the peer knows no IPv6"
	}
	return someRoutes(r)
}

func (r route) v6() bool { return strings.Contains(r.addr, ":") }

// A pair tells who runs where, and by which addresses one end finds the other. The C program always runs in the guest.
type pair struct {
	goServes bool
	ours     *place // where our program runs
	listen   string // the server's address and port in its own place
	port     string
	dial     string // the same as the client sees it
	dialPort string
	limit    time.Duration // of both programs; cellLimit if it is 0
}

func roleName(goServes bool) string {
	if goServes {
		return "server"
	}
	return "client"
}

// pairs runs test for each role of our program and each route, with a capture of each. skip tells why a route is left out, if it is.
func pairs(t *testing.T, skip func(r route) string, test func(t *testing.T, g *guest, goServes bool, r route, want expected)) {
	g := theGuest(t)
	for _, goServes := range []bool{false, true} {
		for _, r := range routes(t, g) {
			t.Run(fmt.Sprintf("go=%s/%s", roleName(goServes), r.name), func(t *testing.T) {
				if why := skip(r); why != "" {
					t.Skip(why)
				}
				g.captured(t, r.dev, func(t *testing.T, want expected) { test(t, g, goServes, r, want) })
			})
		}
	}
	awaitDecodings(t)
}

// newPair returns a pair on ports that were not used for a while.
func (g *guest) newPair(t *testing.T, goServes bool, r route) pair {
	if goServes && r.ours.name == "host" {
		ports, err := freePorts(1)
		require.NoError(t, err)
		port := strconv.Itoa(ports[0])
		return pair{goServes: true, ours: r.ours, listen: "127.0.0.1", port: port, dial: hostAddr, dialPort: port}
	}
	inside, outside := g.port()
	p := pair{goServes: goServes, ours: r.ours, listen: r.addr, port: strconv.Itoa(inside)}
	if goServes {
		p.listen = r.own
	}
	p.dial, p.dialPort = p.listen, p.port
	if r.ours.name == "host" {
		p.dial, p.dialPort = "127.0.0.1", strconv.Itoa(outside)
	}
	return p
}

// inGuest is a pair whose ends are both in the guest.
func (g *guest) inGuest(t *testing.T, goServes bool) pair {
	return g.newPair(t, goServes, route{name: "eth0", ours: &g.place, addr: guestAddr, own: guestAddr})
}

// roles starts the server, waits until it listens, then starts the client. ours and theirs make the arguments.
func (g *guest) roles(t *testing.T, p pair, ours, theirs func(server bool) []string) (goEnd, cEnd *agent.Process) {
	t.Helper()
	limit := cmp.Or(p.limit, cellLimit)
	if p.goServes {
		goEnd = p.ours.startFor(t, limit, ours(true)...)
		require.NoError(t, goEnd.WaitOutput("listening on"))
		return goEnd, g.startFor(t, limit, theirs(false)...)
	}
	cEnd = g.startFor(t, limit, theirs(true)...)
	g.awaitListener(t, cEnd, p)
	return p.ours.startFor(t, limit, ours(false)...), cEnd
}

// control runs two ends that are not ours, and returns their outputs.
func (g *guest) control(t *testing.T, p pair, args func(server bool) []string) (server, client string) {
	t.Helper()
	limit := cmp.Or(p.limit, cellLimit)
	s := g.startFor(t, limit, args(true)...)
	g.awaitListener(t, s, p)
	client = succeeds(t, g.startFor(t, limit, args(false)...))
	return succeeds(t, s), client
}
