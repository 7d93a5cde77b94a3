package rdmanet_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
)

// TestFarewells holds what is said at the end against what the C library says in the same place.
func TestFarewells(t *testing.T) {
	closeRead, closeWrite, closeAll := (*rdmanet.Conn).CloseRead, (*rdmanet.Conn).CloseWrite, (*rdmanet.Conn).Close
	type call = func(*rdmanet.Conn) error
	for _, f := range []struct {
		name  string
		heard []uint32 // from the peer before
		calls []call
		said  []uint32
	}{
		{"CloseWrite", nil, []call{closeWrite}, []uint32{wordShutdown}},
		{"CloseWrite twice", nil, []call{closeWrite, closeWrite}, []uint32{wordShutdown}},
		{"CloseRead", nil, []call{closeRead}, nil},
		{"CloseWrite, CloseRead", nil, []call{closeWrite, closeRead}, []uint32{wordShutdown, wordDisconnect}},
		{"CloseRead, CloseWrite", nil, []call{closeRead, closeWrite}, []uint32{wordDisconnect}},
		{"Close", nil, []call{closeAll}, []uint32{wordDisconnect}},
		{"CloseWrite, Close", nil, []call{closeWrite, closeAll}, []uint32{wordShutdown, wordDisconnect}},
		{"CloseRead, CloseWrite, Close", nil, []call{closeRead, closeWrite, closeAll}, []uint32{wordDisconnect}},
		{"SHUTDOWN, CloseWrite", []uint32{wordShutdown}, []call{closeWrite}, []uint32{wordDisconnect}},
		{"SHUTDOWN, CloseWrite, Close", []uint32{wordShutdown}, []call{closeWrite, closeAll}, []uint32{wordDisconnect}},
		{"SHUTDOWN, Close", []uint32{wordShutdown}, []call{closeAll}, []uint32{wordDisconnect}},
		{"DISCONNECT, Close", []uint32{wordDisconnect}, []call{closeAll}, nil},
		{"DISCONNECT, CloseWrite, Close", []uint32{wordDisconnect}, []call{closeWrite, closeAll}, nil},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel() // as some of the peers do nothing for a second
			p, c, _ := dialRaw(t, nil, nil)
			p.data([]byte("x"))
			p.send(f.heard...)
			b := make([]byte, 1)
			_, err := io.ReadFull(c, b)
			require.NoError(t, err)
			if f.heard != nil {
				_, err = c.Read(b)
				require.Equal(t, io.EOF, err)
			}
			for _, call := range f.calls {
				require.NoError(t, call(c))
			}
			p.expect(f.said...)
			c.Close()
			// The end of the stream, after one more farewell if the last call was no Close and none
			// was sent.
			w, err := p.next(limit)
			if err == nil {
				require.EqualValues(t, wordDisconnect, w)
				require.NotContains(t, f.said, uint32(wordDisconnect))
				_, err = p.next(limit)
			}
			require.Equal(t, io.EOF, err)
		})
	}
	t.Run("who has sent is told nothing", func(t *testing.T) {
		p, c, _ := dialRaw(t, nil, nil)
		p.data([]byte("all"))
		got, err := io.ReadAll(io.LimitReader(c, 3))
		require.NoError(t, err)
		require.Equal(t, "all", string(got))
		// It may be gone by then, and a word would overtake what is on its way.
		require.NoError(t, c.Close())
		p.expect(wordDisconnect)
	})
	t.Run("an rsocket is not told what is unread", func(t *testing.T) {
		p, c, _ := dialRaw(t, nil, nil)
		p.data([]byte("all"))
		_, err := io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		p.expect(wordDisconnect)
		_, err = p.next(limit)
		require.Equal(t, io.EOF, err)
	})
	t.Run("crossing SHUTDOWNs", func(t *testing.T) {
		p, c, _ := dialRaw(t, nil, nil)
		require.NoError(t, c.CloseWrite())
		p.send(wordShutdown)
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, c.Close())
		p.expect(wordShutdown)
		_, err = p.next(limit)
		require.Equal(t, io.EOF, err, "both ends know that both directions are at their end")
	})
}
