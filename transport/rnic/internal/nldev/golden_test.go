package nldev

import (
	"embed"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/netlink"
)

// captured has what Linux 6.1 answered with siw0 on lo, siw1 and rxe0 on eth0, and rping with both
// ends on siw1 (TestCapture).
//
//go:embed testdata/*.bin
var captured embed.FS

// golden calls each with the messages of a captured answer.
func golden(t *testing.T, name string, each func([]byte) error) {
	b, err := captured.ReadFile("testdata/" + name + ".bin")
	require.NoError(t, err)
	if netlink.Native.Uint16([]byte{1, 0}) != 1 {
		t.Skip("captured on a little-endian machine")
	}
	done, err := netlink.Parse(b, netlink.Native.Uint16(b[4:]), netlink.Native.Uint32(b[8:]), each)
	require.NoError(t, err)
	require.True(t, done)
}

func TestGoldenLinks(t *testing.T) {
	var devices []Link
	golden(t, "get", func(b []byte) error {
		devices = append(devices, Link{})
		return parseLink(b, &devices[len(devices)-1])
	})
	require.Equal(t, []Link{
		{Device: "siw0", Index: 0, Node: NodeRNIC, Protocol: "iw", Port: 1},
		{Device: "siw1", Index: 1, Node: NodeRNIC, Protocol: "iw", Port: 1},
		{Device: "rxe0", Index: 2, Node: NodeCA, Protocol: "roce", Port: 1},
	}, devices)
	wanted := []Link{
		{Driver: DriverSIW, Chardev: "uverbs0", NetDev: "lo", NetDevIndex: 1},
		{Driver: DriverSIW, Chardev: "uverbs1", NetDev: "eth0", NetDevIndex: 2},
		{Driver: DriverRXE, Chardev: "uverbs2", NetDev: "eth0", NetDevIndex: 2},
	}
	for i, w := range wanted {
		w.Device, w.Index, w.Port, w.State = devices[i].Device, devices[i].Index, 1, PortActive
		var l Link
		for _, name := range []string{"port-", "chardev-"} {
			golden(t, name+w.Device, func(b []byte) error { return parseLink(b, &l) })
		}
		require.Equal(t, w, l)
	}
}

func TestGoldenCounts(t *testing.T) {
	counts := make(map[string]Counts)
	golden(t, "resources", func(b []byte) error {
		device, c, err := parseCounts(b)
		counts[device] = c
		return err
	})
	require.Equal(t, map[string]Counts{
		"siw0": {},
		"siw1": {QP: 2, CQ: 2, MR: 7, PD: 4, CMID: 3, Ctx: 2},
		"rxe0": {QP: 1, CQ: 1, PD: 1},
	}, counts)
}
