//go:build linux

package kernel

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// Addresses of the guest beside guestAddr. They are on lo, which siw serves under any address but
// 127.0.0.1 and ::1, on eth0, and on a link to a network namespace of the guest.
const (
	loAddr    = "10.7.0.1"
	ethAddr6  = "fd00::15"
	vethAddr  = "10.8.0.1"
	peerAddr  = "10.8.0.2" // in the namespace
	routeInit = "ip addr add " + loAddr + "/32 dev lo; ip -6 addr add " + ethAddr6 + `/64 dev eth0 nodad
		ip netns add peer
		ip link add veth0 type veth peer name veth1 netns peer
		ip addr add ` + vethAddr + "/24 dev veth0; ip -n peer addr add " + peerAddr + `/24 dev veth1
		ip link set veth0 up; ip -n peer link set veth1 up; ip -n peer link set lo up
		` + vethDevice
	vethDevice = "rdma link add siw2 type siw netdev veth0"
)

// A route is a place of our end, and the way from there to the peer in the guest.
type route struct {
	name string
	ours *place
	addr string // the guest's
	own  string // our end's, as the guest sees it
	dev  string // of the guest
}

// routes returns all routes. Those to the host have no place of our end where there is no link.
func routes(g *guest) []route {
	host, _ := linkedHost()
	peer := &place{name: "veth", Client: g.Client, prefix: []string{"ip", "netns", "exec", "peer"}}
	return []route{
		{"host", host, linkAddr, ourLinkAddr, "eth1"},
		{"veth", peer, vethAddr, peerAddr, "veth0"},
		{"eth0", &g.place, guestAddr, guestAddr, "lo"},
		{"lo", &g.place, loAddr, loAddr, "lo"},
		{"eth0-v6", &g.place, ethAddr6, ethAddr6, "lo"},
		{"host-v6", host, linkAddr6, ourLinkAddr6, "eth1"},
	}
}

// route returns the one of the name.
func (g *guest) route(name string) route {
	all := routes(g)
	return all[slices.IndexFunc(all, func(r route) bool { return r.name == name })]
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

// A pair tells who runs where, and the server's address and port. The C program always runs in the
// guest.
type pair struct {
	goServes   bool
	ours       *place // where our program runs
	addr, port string
	limit      time.Duration // of both programs; cellLimit if it is 0
}

func roleName(goServes bool) string {
	if goServes {
		return "server"
	}
	return "client"
}

// A meeting is what pairs has the two ends do.
type meeting struct {
	route
	goServes bool
	o        mpaOptions
	nth      int // of the options
	want     expected
}

// cell is one of the meeting.
func (m meeting) cell(peer, what string) cell {
	return cell{peer, roleName(m.goServes), m.route.name, what + m.o.String()}
}

// pairs runs test for each route and each of the options that are wanted there, with a capture of
// each route. Both roles of our program have their turn at the same time.
func pairs(t *testing.T, skip func(r route) string, options []mpaOptions, wanted func(m meeting) bool, test func(t *testing.T, g *guest, m meeting)) {
	g := theGuest(t)
	for _, r := range routes(g) {
		t.Run(r.name, func(t *testing.T) {
			r.needs(t)
			if why := skip(r); why != "" {
				t.Skip(why)
			}
			g.captured(t, r.dev, func(t *testing.T, want expected) {
				for i, o := range options {
					m := meeting{route: r, o: o, nth: i, want: want}
					if !wanted(m) {
						continue
					}
					t.Run(o.name(), func(t *testing.T) {
						o.set(t, g)
						t.Cleanup(func() { g.noTerminate(t) })
						for _, goServes := range []bool{false, true} {
							m := m
							m.goServes = goServes
							t.Run("go="+roleName(m.goServes), func(t *testing.T) {
								t.Parallel()
								test(t, g, m)
							})
						}
					})
				}
			})
		})
	}
	awaitDecodings(t)
}

// needs skips the test where there is no such route.
func (r route) needs(t *testing.T) {
	t.Helper()
	if r.ours == nil {
		_, err := linkedHost()
		t.Skip(err)
	}
}

// newPair returns a pair on a port that was not used for a while.
func (g *guest) newPair(goServes bool, r route) pair {
	p := pair{goServes: goServes, ours: r.ours, addr: r.addr, port: g.port()}
	if goServes {
		p.addr = r.own
	}
	return p
}

// inGuest is a pair whose ends are both in the guest.
func (g *guest) inGuest(goServes bool) pair {
	return g.newPair(goServes, g.route("eth0"))
}

// roles starts the server, waits until it listens, then starts the client. ours and theirs make the
// arguments.
func (g *guest) roles(t *testing.T, p pair, ours, theirs func(server bool) []string) (goEnd, cEnd *agent.Process) {
	t.Helper()
	limit := cmp.Or(p.limit, cellLimit)
	if p.goServes {
		goEnd = p.ours.startFor(t, limit, ours(true)...)
		require.NoError(t, goEnd.WaitOutput("listening on"))
		return goEnd, g.startFor(t, limit, again(theirs(false))...)
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
	client = succeeds(t, g.startFor(t, limit, again(args(false))...))
	return succeeds(t, s), client
}
