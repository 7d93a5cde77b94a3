package bound

import (
	"fmt"

	"github.com/rdmanet/iwarp/internal/sockdiag"
)

func Limits() (list []string) {
	if err := sockdiag.Available(); err != nil {
		list = append(list, fmt.Sprintf("netlink sockets are not to be had, as in a sandbox without AF_NETLINK (%v), so a conflict does not name its holder, "+
			"a port that was opened to a device's socket is not used, and the addresses of the host cannot be followed", err))
	} else if !sockdiag.BoundVisible() {
		list = append(list, "the kernel does not list sockets that are only bound, so a conflict with one does not name its holder (Linux 6.8 does)")
	}
	if !clearingCounts() {
		list = append(list, "another program can bind, but not listen, beside a dual-stack wildcard reservation whose port was opened to a device's socket")
	}
	return list
}
