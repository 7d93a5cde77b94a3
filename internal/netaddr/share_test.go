package netaddr_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/netaddr"
)

func TestShare(t *testing.T) {
	const slack = time.Minute // that the test may take
	for _, tt := range []struct {
		left time.Duration // 0 means for ever
		n    int
		want time.Duration
	}{
		{0, 3, 0},
		{4 * time.Hour, 1, 4 * time.Hour},
		{4 * time.Hour, 4, time.Hour},
		{3 * time.Second, 4, 2 * time.Second},
		{time.Second, 4, time.Second},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if tt.left > 0 {
			ctx, cancel = context.WithTimeout(ctx, tt.left)
		}
		defer cancel()
		began := time.Now()
		share, end := netaddr.Share(ctx, tt.n)
		defer end()
		deadline, ok := share.Deadline()
		require.Equal(t, tt.left > 0, ok)
		if got := deadline.Sub(began); ok {
			require.LessOrEqual(t, got, tt.want+slack, "%+v", tt)
			require.Greater(t, got, tt.want-min(slack, tt.want), "%+v", tt)
		}
	}
}
