package bound

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
)

// searchTries bounds the search for a port that has only remains of connections.
const searchTries = 64

// search claims a port of the range that the kernel chooses from, where the kernel finds none that
// is unused: some may have only remains of earlier connections. Ports that the administrator has
// reserved are left out, as by the kernel.
func (s *Socket) search(ctx context.Context, addr *net.TCPAddr, control Control) error {
	err := os.NewSyscallError("bind", syscall.EADDRINUSE)
	var low, high int
	if _, scanned := fmt.Sscan(ipSysctl("ip_local_port_range"), &low, &high); scanned != nil || low < 1 || high < low || high > 1<<16-1 {
		return err
	}
	low, high = s.narrow(low, high)
	reserved := parsePorts(ipSysctl("ip_local_reserved_ports"))
	n := high - low + 1
	start := rand.IntN(n)
	for i := range min(n, searchTries) {
		numbered := *addr
		numbered.Port = low + (start+i)%n
		if reserved.contain(numbered.Port) {
			continue
		}
		err = s.claim(ctx, &numbered, control)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

// narrow cuts the range to that of the socket (IP_LOCAL_PORT_RANGE), by the rules of the kernel: an
// end that lies outside does not count.
func (s *Socket) narrow(low, high int) (int, int) {
	first, last := low, high
	if low <= s.ports[0] && s.ports[0] <= high {
		first = s.ports[0]
	}
	if low <= s.ports[1] && s.ports[1] <= high {
		last = s.ports[1]
	}
	return first, max(first, last)
}

// ipSysctl returns a setting of the network namespace, "" if there is none.
func ipSysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
	if err != nil {
		return ""
	}
	return string(b)
}

// portRanges are the first and the last port of each range.
type portRanges [][2]int

// parsePorts reads a list such as "8080,9000-9010", as the kernel writes it.
func parsePorts(list string) (ranges portRanges) {
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		var r [2]int
		switch n, _ := fmt.Sscanf(part, "%d-%d", &r[0], &r[1]); n {
		case 1:
			r[1] = r[0]
			fallthrough
		case 2:
			ranges = append(ranges, r)
		}
	}
	return ranges
}

func (p portRanges) contain(port int) bool {
	for _, r := range p {
		if r[0] <= port && port <= r[1] {
			return true
		}
	}
	return false
}
