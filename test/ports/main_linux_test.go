package ports_test

import "github.com/rdmanet/iwarp/internal/testkit"

type (
	order = testkit.Order
	agent = testkit.Agent
)

var (
	processes, command, skipUnprivileged = testkit.Processes, testkit.Command, testkit.SkipUnprivileged
	inNamespace, ip, portRange           = testkit.InNamespace, testkit.IP, testkit.PortRange
	startAgent, thief                    = testkit.StartAgent, testkit.Thief
)
