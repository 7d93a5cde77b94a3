package iwarp_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestNothingCountsUp compares the requests of connections that were begun one after the other. No
// word of them is near to that of the one before and not the same: no number of a queue pair, a
// packet or a key can be told from the last (ReDMArk, V1, V2 and V5).
func TestNothingCountsUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	request := func() []byte {
		iwarp.ForgetPeers()
		read := make(chan []byte, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				close(read)
				return
			}
			defer c.Close()
			b := make([]byte, 20)
			if _, err = io.ReadFull(c, b); err == nil {
				b = append(b, make([]byte, binary.BigEndian.Uint16(b[18:]))...)
				_, err = io.ReadFull(c, b[20:])
			}
			if err != nil {
				b = nil
			}
			_, _ = c.Write([]byte("no"))
			read <- b
		}()
		c, err := (&iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: patience}).Dial("tcp", l.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		require.Error(t, err)
		b := <-read
		require.NotEmpty(t, b)
		return b
	}
	const near, end = 16, 76 // bytes from which on there is a hash, or nothing that changes
	before, random := request(), 0
	for range 10 {
		b := request()
		require.Len(t, b, len(before))
		for at := 0; at+4 <= min(len(b), end); at += 4 {
			for _, order := range []binary.ByteOrder{binary.BigEndian, binary.LittleEndian} {
				v, w := order.Uint32(before[at:]), order.Uint32(b[at:])
				require.False(t, v != w && w-v < near, "byte %d: %#x and then %#x", at, v, w)
				if v != w {
					random++
				}
			}
		}
		before = b
	}
	require.NotZero(t, random, "STags are among the words")
}
