package iwarp_test

import "github.com/rdmanet/iwarp/internal/testkit"

type order = testkit.Order

var (
	inNamespace, ip, portRange        = testkit.InNamespace, testkit.IP, testkit.PortRange
	sockaddr, thief, skipUnprivileged = testkit.Sockaddr, testkit.Thief, testkit.SkipUnprivileged
)
