package nldev

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/netlink"
)

// TestNumberTooLarge gives every number of a Link a value that it cannot have.
func TestNumberTooLarge(t *testing.T) {
	for _, kind := range []uint16{attributeDeviceIndex, attributePortIndex, attributePortState, attributeNodeType, attributeNetDevIndex, attributeDriver} {
		large := netlink.Attribute{Kind: kind, Value: netlink.Native.AppendUint64(nil, 1<<32)}
		require.ErrorIs(t, parseLink(netlink.AppendAttributes(nil, large), new(Link)), netlink.ErrMalformed, kind)
	}
	nested := netlink.AppendAttributes(nil, netlink.Attribute{Kind: attributeSummaryCount, Value: []byte{1, 2, 3}})
	nested = netlink.AppendAttributes(nil, netlink.Attribute{Kind: attributeSummaryEntry, Value: nested})
	_, _, err := parseCounts(netlink.AppendAttributes(nil, netlink.Attribute{Kind: attributeSummary, Value: nested}))
	require.ErrorIs(t, err, netlink.ErrMalformed)
}

func TestStrings(t *testing.T) {
	for d, name := range map[Driver]string{
		DriverCXGB4: "cxgb4", DriverIRDMA: "irdma", DriverQEDR: "qedr", DriverRXE: "rxe", DriverSIW: "siw", DriverERDMA: "erdma",
	} {
		require.Equal(t, name, d.String())
	}
	require.Equal(t, "rxe", DriverRXE.String())
	require.Equal(t, "unknown", DriverUnknown.String())
	require.Equal(t, "driver 4294967295", Driver(1<<32-1).String())
	require.Equal(t, "rnic", NodeRNIC.String())
	require.Equal(t, "node type 255", NodeType(255).String())
	require.Equal(t, "ACTIVE", PortActive.String())
	require.Equal(t, "state 6", PortState(6).String())
}

func FuzzParse(f *testing.F) {
	files, err := fs.Glob(captured, "testdata/*.bin")
	require.NoError(f, err)
	for _, file := range files {
		b, err := captured.ReadFile(file)
		require.NoError(f, err)
		f.Add(b, netlink.Native.Uint16(b[4:])&^clientNLDev, netlink.Native.Uint32(b[8:]))
	}
	f.Fuzz(func(t *testing.T, b []byte, c uint16, seq uint32) {
		messages := 0
		_, _ = netlink.Parse(b, clientNLDev|c, seq, func(body []byte) error {
			if messages++; messages > len(b)/16 {
				t.Fatal("more messages than fit")
			}
			var again []byte
			err := netlink.ParseAttributes(body, func(a netlink.Attribute) error {
				again = netlink.AppendAttributes(again, a)
				return nil
			})
			// What was understood is what was there, but for flags and padding.
			if err == nil && (len(again) > (len(body)+3)&^3 || len(body)-len(again) >= 4) {
				t.Fatalf("% x became % x", body, again)
			}
			var l, same Link
			if err := parseLink(body, &l); err == nil && (parseLink(again, &same) != nil || l != same) {
				t.Fatalf("%+v became %+v", l, same)
			}
			if strings.ContainsRune(l.Device+l.NetDev+l.Protocol, 0) {
				t.Fatal("a NUL in a name")
			}
			_, _, _ = parseCounts(body)
			entries := 0
			_ = parseEntries(body, attributeCMID, attributeCMIDEntry, func(b []byte) error {
				if entries++; entries > len(body)/4 {
					t.Fatal("more entries than fit")
				}
				id, err := parseCMID(b)
				_ = id.Local.String() + id.Remote.String() + id.State.String() + id.Space.String()
				return err
			})
			_ = parseEntries(body, attributeQP, attributeQPEntry, func(b []byte) error {
				q, err := parseQP(b)
				_ = q.State.String() + q.Type.String()
				return err
			})
			return nil
		})
	})
}
