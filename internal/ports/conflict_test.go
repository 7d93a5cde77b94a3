package ports

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/sockdiag"
)

// TestGoneHolder does not say of a socket that has been closed since it was listed that it is the
// kernel's own.
func TestGoneHolder(t *testing.T) {
	gone := sockdiag.Socket{Local: netip.MustParseAddrPort("127.0.0.1:7"), State: sockdiag.Listening, Inode: 1<<32 - 1}
	h := holders([]sockdiag.Socket{gone})
	require.Len(t, h, 1)
	require.False(t, h[0].Kernel)
	require.Zero(t, h[0].PID)
}
