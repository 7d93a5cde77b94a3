package nldev

import (
	"embed"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/netlink"
)

// captured has what Linux 6.1 answered with siw0 on lo, siw1 and rxe0 on eth0, and rping with both
// ends on siw1 (TestCapture); the ids and queue pairs are those of rxe0 with two servers by rping
// and a connection by rstream.
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

func TestGoldenIDs(t *testing.T) {
	var ids []CMID
	golden(t, "cmid-rxe0", func(b []byte) error {
		return parseEntries(b, attributeCMID, attributeCMIDEntry, func(b []byte) error {
			id, err := parseCMID(b)
			ids = append(ids, id)
			return err
		})
	})
	at := netip.MustParseAddrPort
	require.Equal(t, []CMID{
		{Number: 0, Local: at("0.0.0.0:7001"), State: CMListen, Space: SpaceTCP, Owner: Owner{PID: 137}},
		{Number: 1, Port: 1, Local: at("[fd00:9::1]:7003"), Remote: at("[::]:0"), State: CMListen, Space: SpaceTCP, Owner: Owner{PID: 138}},
		{Number: 2, Port: 1, Local: at("10.9.0.1:7004"), Remote: at("0.0.0.0:0"), State: CMListen, Space: SpaceTCP, Owner: Owner{PID: 139}},
		{Number: 3, Port: 1, Local: at("10.9.0.1:40892"), Remote: at("10.9.0.1:7004"), State: CMConnect, Space: SpaceTCP, QPN: 17, Owner: Owner{PID: 144}},
		{Number: 4, Port: 1, Local: at("10.9.0.1:7004"), Remote: at("10.9.0.1:40892"), State: CMConnect, Space: SpaceTCP, QPN: 18, Owner: Owner{PID: 139}},
	}, ids)
	var qps []QP
	golden(t, "qp-rxe0", func(b []byte) error {
		return parseEntries(b, attributeQP, attributeQPEntry, func(b []byte) error {
			q, err := parseQP(b)
			qps = append(qps, q)
			return err
		})
	})
	require.Equal(t, []QP{
		{Number: 17, Remote: 18, Port: 1, State: 3, Type: 2, Owner: Owner{PID: 144}},
		{Number: 18, Remote: 17, Port: 1, State: 3, Type: 2, Owner: Owner{PID: 143}},
		{Number: 1, Port: 1, State: 3, Type: 1, Owner: Owner{Kernel: "ib_core"}},
	}, qps)
	require.True(t, qps[2].Type.Management())
	require.Equal(t, "RTS RC CONNECT TCP", qps[0].State.String()+" "+qps[0].Type.String()+" "+ids[3].State.String()+" "+ids[3].Space.String())
}

func TestAddress(t *testing.T) {
	local := make([]byte, 128) // struct sockaddr_storage
	netlink.Native.PutUint16(local, 10)
	copy(local[2:], []byte{0x1b, 0x58, 0, 0, 0, 0, 0xfe, 0x80})
	local[23], local[24] = 1, 3
	netlink.Native.PutUint32(local[24:], 3)
	a, err := parseAddress(local)
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddrPort("[fe80::1%3]:7000"), a)
	for _, b := range [][]byte{nil, {2}, local[:27], netlink.Native.AppendUint16(nil, 2)} {
		_, err := parseAddress(b)
		require.ErrorIs(t, err, netlink.ErrMalformed)
	}
	a, err = parseAddress(netlink.Native.AppendUint16(nil, 27)) // AF_IB
	require.NoError(t, err)
	require.False(t, a.IsValid())
}
