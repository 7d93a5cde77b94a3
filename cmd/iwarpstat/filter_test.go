package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzFilter reads conditions, and asks them about a row. With "not", each says the contrary.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		"", "state established", "not state listen", "! fallback and offloaded", "sport = :80", "dport == 443 path soft", "addr 192.0.2.0/24", "src [::1] dst ::1",
		"and and not", "not", "sport", "sport =", "port 65536", "addr 1.2.3.4/99", "colour red", "reason time process demo", "not not state x",
	} {
		f.Add(seed)
	}
	r := row{
		local: netip.MustParseAddrPort("192.0.2.1:80"), peer: netip.MustParseAddrPort("[fe80::1%eth0]:443"), state: "established", path: "tcp",
		reason: "timeout", text: "No answer", process: process{Name: "demo"}, connects: true,
	}
	f.Fuzz(func(t *testing.T, text string) {
		words := strings.Fields(text)
		all, err := parseFilter(words)
		if err != nil {
			require.Empty(t, all)
			return
		}
		want := true
		for _, c := range all {
			holds := c.row(&r) != c.not
			want = want && holds
			require.NotEqual(t, holds, filter{{!c.not, c.row}}.wants(r))
		}
		require.Equal(t, want, all.wants(r))
	})
}
