package main

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlaces(t *testing.T) {
	at := func(s string, only6 bool, device string) place {
		a := netip.MustParseAddrPort(s)
		return place{a.Addr(), a.Port(), only6, device}
	}
	one, any4, any6 := at("10.0.0.1:80", false, ""), at("0.0.0.0:80", false, ""), at("[::]:80", false, "")
	one6, only6, eth0 := at("[fd00::1]:80", false, ""), at("[::]:80", true, ""), at("0.0.0.0:80", false, "eth0")
	for _, tt := range []struct {
		p, q             place
		covers, overlaps bool
	}{
		{one, one, true, true},
		{any4, one, true, true},
		{one, any4, false, true},
		{any6, one, true, true},
		{any6, any4, true, true},
		{any6, one6, true, true},
		{any6, only6, true, true},
		{only6, any6, false, true},
		{only6, one6, true, true},
		{only6, only6, true, true},
		{only6, one, false, true}, // overlaps does not look at it
		{any4, one6, false, false},
		{one, at("10.0.0.2:80", false, ""), false, false},
		{any6, at("[::]:81", false, ""), false, false},
		{any4, eth0, true, true},
		{eth0, any4, false, true},
		{eth0, at("10.0.0.1:80", false, "eth0"), true, true},
		{eth0, at("10.0.0.1:80", false, "eth1"), false, false},
	} {
		require.Equal(t, tt.covers, tt.p.covers(tt.q), "%v covers %v", tt.p, tt.q)
		require.Equal(t, tt.overlaps, tt.p.overlaps(tt.q), "%v overlaps %v", tt.p, tt.q)
		if tt.q.covers(tt.p) && !tt.covers && tt.p.device == "" { // as wants are
			require.Less(t, tt.q.width(), tt.p.width(), "%v before %v", tt.q, tt.p)
		}
	}
	for want, p := range map[string]place{
		"10.0.0.1:80": one, "0.0.0.0:80": any4, "*:80": any6, "[::]:80": only6, "0.0.0.0%eth0:80": eth0, "[fd00::1]:80": one6,
	} {
		require.Equal(t, want, p.String())
	}
}
