//go:build linux

package kernel

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// Two network namespaces of the guest with a bad link between them, and nothing of RDMA.
const (
	leftAddr, rightAddr = "10.11.0.1", "10.11.0.2"
	spoiledInit         = `modprobe -a sch_ingress cls_matchall act_pedit
		ip netns add left
		ip netns add right
		ip -n left link add left0 type veth peer name right0 netns right
		ip -n left addr add ` + leftAddr + `/24 dev left0
		ip -n right addr add ` + rightAddr + `/24 dev right0
		for n in left right; do ip -n $n link set lo up; ip -n $n link set ${n}0 up; done`
)

// An overIP is a kind of connection between two ends of ours, which have it by their policy.
type overIP struct {
	name, args, policy string
	path               string // that it takes
}

var overIPs = []overIP{
	{"plain TCP, the control", "-t", "", "tcp"},
	{"auto", "-front", "auto", "tcp"},
	{"prefer", "-front", "prefer", "soft"},
	{"require", "-front", "require", "soft"},
	{"require, without CRC", "-crc=false", "", "soft"},
}

// A spoiledLink is between two places in the guest.
type spoiledLink struct {
	*guest
	left, right *place
}

func (g *guest) spoiledLink(t *testing.T) spoiledLink {
	t.Helper()
	g.run(t, "sh", "-ec", spoiledInit)
	t.Cleanup(func() { g.run(t, words("ip netns del left")...); g.run(t, words("ip netns del right")...) })
	at := func(name string) *place {
		return &place{name: name, Client: g.Client, prefix: words("ip netns exec %s", name)}
	}
	return spoiledLink{g, at("left"), at("right")}
}

// start has the flow run between the two places.
func (l *spoiledLink) start(t *testing.T, over overIP, f flow) (client, server *agent.Process) {
	t.Helper()
	p := pair{addr: rightAddr, port: l.port()}
	program := words("env IWARP_OFFLOAD=%s go-stream %s", over.policy, over.args)
	server = l.right.start(t, append(program, f.args(p, true, true)...)...)
	require.NoError(t, server.WaitOutput("listening on"))
	return l.left.start(t, append(program, f.args(p, false, false)...)...), server
}

// each has something done to both ends of the link: at stands for the namespace.
func (l *spoiledLink) each(t *testing.T, format string) {
	t.Helper()
	for _, at := range []string{"left", "right"} {
		l.run(t, strings.Fields(strings.ReplaceAll(format, "@", at))...)
	}
}

// counter adds up a counter of both namespaces.
func (l *spoiledLink) counter(t *testing.T, name string) (n int) {
	t.Helper()
	for _, at := range []*place{l.left, l.right} {
		n += counted(t, at, name)
	}
	return n
}

// A network that loses, reorders, doubles and alters packets, or takes only small ones: every byte
// arrives, over iWARP as over plain TCP.
func TestNetem(t *testing.T) {
	g := theGuest(t)
	l := g.spoiledLink(t)
	for _, c := range []struct {
		name, netem, mtu string
		counter          string // of TCP, which the harm counts up
		quick            bool
	}{
		{"loss of 2 %", "loss 2%", "1500", "TcpRetransSegs", false},
		{"reordering", "delay 5ms reorder 25% 50%", "1500", "TcpExtTCPOFOQueue", false},
		{"duplication of 10 %", "duplicate 10%", "1500", "TcpExtTCPDSACKRecv", false},
		{"a flipped bit in 2 % of the packets", "corrupt 2%", "1500", "TcpInCsumErrors", true},
		{"all of it", "delay 2ms reorder 25% 50% loss 1% duplicate 2% corrupt 1%", "1500", "TcpRetransSegs", true},
		{"MTU 576", "", "576", "", false},
		{"MTU 1280", "", "1280", "", false},
		{"MTU 9000", "", "9000", "", false},
		{"MTU 9000 with loss of 1 %", "loss 1%", "9000", "TcpRetransSegs", true},
		{"MTU 576 with loss of 1 %", "loss 1%", "576", "TcpRetransSegs", true},
	} {
		if !c.quick && !*fullFlag {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			l.each(t, "ip -n @ link set @0 mtu "+c.mtu)
			if c.netem != "" {
				l.each(t, "ip -n @ link set dev @0 gso_max_segs 1")
				l.each(t, "tc -n @ qdisc add dev @0 root netem "+c.netem)
				defer func() {
					l.each(t, "tc -n @ qdisc del dev @0 root")
					l.each(t, "ip -n @ link set dev @0 gso_max_segs 65535")
				}()
				before := l.counter(t, c.counter)
				defer func() {
					n := l.counter(t, c.counter) - before
					t.Logf("%s: %d", c.counter, n)
					require.Positive(t, n, c.counter)
				}()
			}
			f := flow{theirs: 400_000, ours: 400_000, chunk: 10_000, theirEnd: "half", mine: "last"}
			if *fullFlag {
				f.theirs, f.ours = 4_000_000, 4_000_000
			}
			t.Run("ends", func(t *testing.T) {
				for _, over := range overIPs {
					t.Run(over.name, func(t *testing.T) {
						t.Parallel()
						record(t, cell{"package iwarp", "both ends", "two namespaces", c.name + ", " + over.name})
						client, server := l.start(t, over, f)
						succeeds(t, client)
						succeeds(t, server)
						require.Contains(t, client.Stderr(), "Transport:"+over.path)
						require.Contains(t, server.Stderr(), "Transport:"+over.path)
					})
				}
			})
		})
	}
	g.healthy(t)
}

// A byte that is altered beneath the checksums of TCP arrives over plain TCP. CRC32C finds it.
func TestAltered(t *testing.T) {
	g := theGuest(t)
	l := g.spoiledLink(t)
	wrong := regexp.MustCompile("wrong data in the")
	for i, over := range overIPs {
		if i%3 != 0 && !*fullFlag {
			continue
		}
		t.Run(over.name, func(t *testing.T) {
			record(t, cell{"package iwarp", "both ends", "two namespaces", "bytes altered beneath TCP, " + over.name})
			client, server := l.start(t, over, endless)
			require.NoError(t, client.WaitOutput("Transport:"+over.path))
			// Between two ends of veth no checksum of TCP is made.
			l.each(t, "tc -n @ qdisc add dev @0 clsact")
			defer l.each(t, "tc -n @ qdisc del dev @0 clsact")
			l.run(t, words("tc -n left filter add dev left0 egress protocol ip matchall action pedit munge offset 1000 u8 invert")...)
			fails(t, server)
			fails(t, client)
			said := client.Stderr() + server.Stderr()
			t.Log(said)
			switch {
			case over.path == "tcp":
				require.Regexp(t, wrong, said)
			case over.args == "-front":
				require.NotRegexp(t, wrong, said)
				require.Contains(t, said, "CRC")
			}
		})
	}
	g.healthy(t)
}
