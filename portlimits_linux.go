package iwarp

import "github.com/rdmanet/iwarp/internal/sockdiag"

func portLimits() (list []string) {
	if !sockdiag.BoundVisible() {
		list = append(list, "the kernel does not list sockets that are only bound, so a conflict with one does not name its holder (Linux 6.8 does)")
	}
	if !clearingCounts() {
		list = append(list, "another program can bind, but not listen, beside a dual-stack wildcard reservation that was made while earlier connections had the port")
	}
	return list
}
