//go:build linux

package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

// An xfer is what one run of rstream does. Two C ends in the guest do all of those in xfers, with
// and without CRC. In mode "a" (poll without blocking) two C ends fail now and then: the last to
// receive may see POLLHUP before the data.
type xfer struct {
	size, count, iterations int
	mode                    string // rstream's -T: b for blocking calls, n for none that block
}

var xfers = []xfer{
	{size: 1, count: 10, iterations: 1, mode: "b"},
	{size: 64, count: 100, iterations: 2, mode: "b"},
	{size: 64, count: 100, iterations: 2, mode: "n"},
	{size: 1000, count: 100, iterations: 1, mode: "b"},
	{size: 4096, count: 100, iterations: 1, mode: "n"},
	{size: 40000, count: 10, iterations: 2, mode: "b"},
	{size: 65536, count: 10, iterations: 1, mode: "b"},
	{size: 131072, count: 5, iterations: 1, mode: "n"},
	{size: 1 << 20, count: 2, iterations: 1, mode: "b"},
	{size: 4 << 20, count: 1, iterations: 1, mode: "b"},
}

// quickXfers covers small and large messages, and both kinds of calls.
var quickXfers = []xfer{xfers[2], xfers[5], xfers[7]}

func (x xfer) String() string {
	return fmt.Sprintf("%dx%dx%d-%s", x.size, x.count, x.iterations, x.mode)
}

func (x xfer) common() []string {
	return []string{"-S", strconv.Itoa(x.size), "-C", strconv.Itoa(x.count), "-I", strconv.Itoa(x.iterations)}
}

func (x xfer) theirs(p pair, server bool) []string {
	return append(append([]string{"rstream", "-T", x.mode, "-T", "v"}, x.common()...), x.where(p, server)...)
}

func (x xfer) ours(p pair, server bool, o mpaOptions) []string {
	return slices.Concat([]string{"go-rstream", "-verify"}, o.flags(), x.common(), x.where(p, server))
}

func (x xfer) where(p pair, server bool) []string {
	if server {
		return []string{"-b", p.addr, "-p", p.port}
	}
	return []string{"-s", p.addr, "-p", p.port}
}

// librdmacm's rsockets on siw and a Conn of ours: both ends count and compare every byte, and the
// stream ends in order.
func TestRstream(t *testing.T) {
	pairs(t, everyRoute, everyMPA, meeting.covered, func(t *testing.T, g *guest, m meeting) {
		some := quickXfers[1:2]
		switch first := m.nth == 0 || m.nth == 1 && m.route.name == "veth"; {
		case first && (m.route.name == "veth" || m.route.name == "host" && *fullFlag):
			some = xfers
		case first || m.route.name == "veth" && !*fullFlag:
			some = quickXfers
		}
		for _, x := range some {
			t.Run(x.String(), func(t *testing.T) {
				g.play(t, m, m.cell("rstream (siw)", ""),
					func(p pair, server bool) []string { return x.ours(p, server, m.o) }, x.theirs)
			})
		}
	})
}
