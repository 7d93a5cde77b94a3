package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/nldev"
)

// TestOtherPrograms joins what the kernel says to the connections of programs that use this module,
// and lists the rest.
func TestOtherPrograms(t *testing.T) {
	at := netip.MustParseAddrPort
	demo := process{PID: 7, Name: "demo"}
	r := &report{
		Processes: []process{demo},
		Problems:  []problem{{process: process{PID: 8, Name: "newer"}}},
		Connections: []connection{
			{process: demo, Path: "rnic", Device: "rxe0", Local: at("10.0.0.1:1000"), Peer: at("10.0.0.2:80")},
			{process: demo, Path: "rnic", Device: "siw0", Local: at("10.0.0.1:1001"), Peer: at("10.0.0.2:80")},
			{process: demo, Path: "rnic", Device: "siw0", Local: at("10.0.0.1:80"), Peer: at("10.0.0.3:3"), Accepted: true},
			{process: demo, Path: "rnic", Device: "siw0", Local: at("10.0.0.1:1002"), Peer: at("10.0.0.2:81")},
			{process: demo, Path: "rnic", Device: "siw0", Local: at("10.0.0.1:1002"), Peer: at("10.0.0.2:82")},
			{process: demo, Path: "soft", Local: at("10.0.0.1:1003"), Peer: at("10.0.0.2:80")},
		},
	}
	tcp := func(pid uint32, qpn uint32, state nldev.CMState, local, peer string) nldev.CMID {
		c := nldev.CMID{Local: at(local), State: state, Space: nldev.SpaceTCP, QPN: qpn, Owner: nldev.Owner{PID: pid}}
		if peer != "" {
			c.Remote = at(peer)
		}
		return c
	}
	whose := makers{7: demo, 8: {PID: 8}, 71: demo, 9: {PID: 9, Name: "rping"}, 91: {PID: 9, Name: "rping"}}
	link := nldev.Link{Device: "hw0", Node: nldev.NodeCA}
	r.addDevice(&link, []nldev.CMID{
		tcp(7, 17, nldev.CMConnect, "10.0.0.1:1000", "10.0.0.2:80"),
		tcp(71, 18, nldev.CMConnect, "10.0.0.1:1001", "10.0.0.2:4001"), // redirected
		tcp(7, 19, nldev.CMConnect, "10.0.0.1:4001", "10.0.0.3:3"),
		tcp(7, 20, nldev.CMConnect, "10.0.0.1:1002", "10.0.0.2:4002"), // it is not known which
		tcp(7, 0, nldev.CMListen, "10.0.0.1:80", ""),
		tcp(8, 21, nldev.CMConnect, "10.0.0.1:5", "10.0.0.2:5"),
		tcp(9, 0, nldev.CMListen, "0.0.0.0:7471", "0.0.0.0:0"),
		tcp(9, 22, nldev.CMConnect, "10.0.0.1:7471", "10.0.0.2:6"),
		tcp(9, 23, nldev.CMConnect, "10.0.0.1:7471", "10.0.0.2:7"),
		{Local: at("0.0.0.0:20049"), State: nldev.CMListen, Space: nldev.SpaceTCP, Owner: nldev.Owner{Kernel: "rpcrdma"}},
	}, []nldev.QP{
		{Number: 1, Type: 1, State: 3, Owner: nldev.Owner{Kernel: "ib_core"}},
		{Number: 17, Type: 2, State: 3, Owner: nldev.Owner{PID: 7}},
		{Number: 22, Remote: 5, Type: 2, State: 3, Owner: nldev.Owner{PID: 91}},
		{Number: 23, Type: 2, State: 1, Owner: nldev.Owner{PID: 91}},
		{Number: 24, Type: 4, State: 3, Owner: nldev.Owner{PID: 9}},
	}, r.ours(), whose, nil)
	var qpns []uint32
	for _, c := range r.Connections {
		qpns = append(qpns, c.QPN)
	}
	require.Equal(t, []uint32{17, 18, 19, 0, 0, 0}, qpns)
	var states []string
	for _, v := range r.RDMA {
		require.NotEqual(t, 7, v.PID)
		require.True(t, v.Offloaded)
		states = append(states, v.Name+" "+v.State)
	}
	require.Equal(t, []string{"rping listening", "rping established", "rping connecting", "[rpcrdma] listening", "rping rts"}, states)

	var out bytes.Buffer
	p := printer{out: &out, all: true, processes: true}
	require.NoError(t, p.print(&report{RDMA: r.RDMA}))
	for _, line := range []string{
		`rdma/hw0    established  10.0.0.1:7471  10.0.0.2:6  RC 22 to 5  rping\(9\)`, `rdma/hw0    rts          -              -           UD 24       rping\(9\)`,
		`0.0.0.0:7471 +listening +hw0 +rping`, `0.0.0.0:20049 +listening +hw0 +\[rpcrdma\]`,
	} {
		require.Regexp(t, line, out.String())
	}
	b, err := json.Marshal(r.RDMA[4])
	require.NoError(t, err)
	require.JSONEq(t, `{"pid":9,"process":"rping","uid":0,"device":"hw0","offloaded":true,"state":"rts","qpn":24,"qp_type":"UD","qp_state":"RTS"}`, string(b))

	f, err := parseFilter([]string{"process", "rping", "path", "rdma", "state", "established", "sport", ":7471", "offloaded"})
	require.NoError(t, err)
	f.apply(r)
	require.Len(t, r.RDMA, 1)
	require.EqualValues(t, 22, r.RDMA[0].QPN)
}
