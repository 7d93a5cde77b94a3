package rdmanet_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
)

// What cannot be read before it is complete is short until the peer has turned out to be fast:
// FPDUs where no word follows, else messages.
func TestPiecesAreShortAtFirst(t *testing.T) {
	const most = 4 << 10
	t.Run("segments", func(t *testing.T) {
		e := connect(t, setting{})
		for _, c := range []*rdmanet.Conn{e.a, e.b} {
			require.LessOrEqual(t, c.Attributes().MaxSegment, most)
		}
	})
	t.Run("messages", func(t *testing.T) {
		p, c, _ := dialRaw(t, nil, nil)
		p.waitedFor(c, "hello")
		_, err := c.Write(pattern(rawRing / 2))
		require.NoError(t, err)
		p.expectData(rawRing/2, most)
	})
}
