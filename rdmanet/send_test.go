package rdmanet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// The data of a Write is lent to the transport while the Write drains. The words after it are not:
// their memory serves the next call as soon as they are posted.
func TestOnlyDataIsLent(t *testing.T) {
	for name, wordless := range map[string]bool{"with words": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			c := &Conn{extended: wordless, stage: stage{depth: 512}}
			peer := &wire.ConnData{Credits: 64, Ring: wire.SGE{Length: 64 << 10}}
			if wordless {
				peer.Ext = &wire.Extension{Wordless: true}
			}
			c.order = wire.LittleEndian
			c.out.Start(peer, c.order, wordless, false)
			c.out.SetPieces(4<<10, time.Now())
			b := new(batch)
			require.Positive(t, c.addData(b, make([]byte, 10_000), transport.WillDrain))
			for _, wr := range b.wrs[:b.n] {
				require.Equal(t, wr.Opcode == transport.OpWrite, wr.Flags&transport.Lent != 0, "%v", wr.Opcode)
				require.NotZero(t, wr.Flags&transport.Inline)
				require.NotZero(t, wr.Flags&transport.WillDrain)
			}
		})
	}
}
