package iwarp_test

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/rdmanet"
)

// What peers may send ahead is bounded by the settings of either end, each for its own.
func TestReadBufferAndBudget(t *testing.T) {
	const least = 16 << 10
	nothing := rdmanet.NewBudget(0)
	for name, s := range map[string]struct {
		buffer int
		budget *rdmanet.Budget
		most   int
	}{
		"buffer":        {buffer: 8 << 10, most: 8 << 10},
		"tiny buffer":   {buffer: 1, most: 4 << 10},
		"budget":        {budget: nothing, most: least},
		"both":          {buffer: 1 << 20, budget: nothing, most: least},
		"buffer counts": {buffer: 4 << 10, budget: nothing, most: 4 << 10},
	} {
		for end, lc := range map[string]iwarp.ListenConfig{"listener": {ReadBuffer: s.buffer, ReadBudget: s.budget}, "dialer": {}} {
			t.Run(name+"/"+end, func(t *testing.T) {
				d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: patience}
				if end == "dialer" {
					d.ReadBuffer, d.ReadBudget = s.buffer, s.budget
				}
				l := listen(t, lc)
				accepted := make(chan net.Conn, 1)
				go func() {
					c, _ := l.Accept()
					accepted <- c
				}()
				c, err := d.Dial("tcp", l.Addr().String())
				require.NoError(t, err)
				defer c.Close()
				peer := <-accepted
				require.NotNil(t, peer)
				defer peer.Close()
				if end == "dialer" {
					c, peer = peer, c
				}
				require.NoError(t, c.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
				n, err := c.Write(make([]byte, 1<<20))
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.LessOrEqual(t, n, s.most)
				require.NoError(t, peer.Close())
			})
		}
	}
	require.Zero(t, nothing.Held())
}
