package iwarp_test

import (
	"encoding/binary"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestNothingToTime has a peer look for pages that were not touched yet by how long they take
// (ReDMArk, V10). Nothing comes back for an RDMA Write, and in the ring of a stream no page can be
// chosen: what does not follow what came before ends the connection.
func TestNothingToTime(t *testing.T) {
	const writes, page = 64, 4096
	l := listen(t, iwarp.ListenConfig{})
	var server sync.WaitGroup
	server.Go(func() { echo(l) })
	attack := func(step uint64) (came []byte) {
		c := rudeClient{t, dialTCP(t, l)}
		c.connectedTo(func(private []byte) (all []byte) {
			base := binary.BigEndian.Uint64(private[24:]) // of the ring
			for i := range uint64(writes) {
				head := append([]byte{0xc1, 0x40}, private[32:36]...) // an RDMA Write, with the ring's STag
				all = append(all, fpdu(binary.BigEndian.AppendUint64(head, base+i*step), []byte{1})...)
			}
			return append(all, fpdu(untagged(1, 1, 1), make([]byte, 28))...) // a Read of nothing
		})
		came = make([]byte, 4)
		_, err := io.ReadFull(c, came)
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		return append(came, c.ended()...)
	}
	came := attack(1)
	require.Len(t, came, 20, "one FPDU")
	require.Equal(t, byte(2), came[3]&15, "it answers the Read")
	came = attack(page)
	require.Equal(t, byte(terminate), came[3]&15)
	require.Equal(t, []byte{0x11, 0x01}, came[20:22], "the second write is out of bounds")
	require.NoError(t, l.Close())
	server.Wait()
}
