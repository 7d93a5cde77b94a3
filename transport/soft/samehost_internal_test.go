package soft

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOwnAddrs(t *testing.T) {
	for _, tc := range []struct {
		local, remote string
		want          bool
	}{
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "127.9.9.9", true},
		{"::1", "::1", true},
		{"::ffff:127.0.0.1", "127.0.0.1", true},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"127.0.0.1", "192.0.2.2", false},
		{"192.0.2.2", "127.0.0.1", false},
		{"fe80::1%eth0", "fe80::1%eth0", true},
		{"fe80::1%eth0", "fe80::1%eth1", false},
	} {
		require.Equal(t, tc.want, ownAddrs(netip.MustParseAddr(tc.local), netip.MustParseAddr(tc.remote)), "%s %s", tc.local, tc.remote)
	}
}
