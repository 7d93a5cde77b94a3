//go:build linux

package kernel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of ports, on the guest's kernel: who can take a port that is held, restarts over
// TIME_WAIT, ports that the kernel chooses, reservations of all kinds.
func TestPorts(t *testing.T) {
	g := theGuest(t)
	for _, name := range []string{"TestPortMatrix", "TestPortStorm", "TestEphemeralPorts", "TestReservation.*", "TestReserve.*", "TestPortSet.*", "TestPortLimits",
		"TestListenTakesReservationOfFamily", "TestNoConflictBetweenDevices", "TestSharedSocketGoesOn", "TestInherit.*",
		"TestContendInSandbox", "TestSandboxIsNamed", "TestListenInSandbox", "TestReserveEachInSandbox"} {
		t.Run(name, func(t *testing.T) {
			program := "ports.test"
			if name == "TestSharedSocketGoesOn" {
				program = "iwarp.test" // which sees to what becomes of listeners
			}
			out := succeeds(t, g.startFor(t, groupLimit, program, "-test.v", "-test.timeout=4m", "-test.run=^"+name+"$"))
			require.Contains(t, out, "--- PASS: Test")
			require.NotContains(t, out, "--- SKIP")
		})
	}
}
