package rdmanet

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// TestEnds goes through all that two ends may have said when one of them ends something.
func TestEnds(t *testing.T) {
	const o, f, d = endOpen, endFinished, endDisconnected
	type result struct {
		to   end
		tell bool
	}
	for _, c := range []struct {
		own, peer end
		write     result // CloseWrite
		last      result // the same after CloseRead
		close     result // Close, or CloseRead after CloseWrite
	}{
		{o, o, result{f, true}, result{d, true}, result{d, true}},
		{o, f, result{d, true}, result{d, true}, result{d, true}},
		{o, d, result{d, false}, result{d, false}, result{d, false}},
		{f, o, result{f, false}, result{d, false}, result{d, true}},
		{f, f, result{d, false}, result{d, false}, result{d, false}},
		{f, d, result{d, false}, result{d, false}, result{d, false}},
		{d, o, result{d, false}, result{d, false}, result{d, false}},
		{d, f, result{d, false}, result{d, false}, result{d, false}},
		{d, d, result{d, false}, result{d, false}, result{d, false}},
	} {
		name := fmt.Sprintf("own %d, peer %d", c.own, c.peer)
		for _, how := range []struct {
			name        string
			reads, both bool
			want        result
		}{{"CloseWrite", true, false, c.write}, {"CloseWrite after CloseRead", false, false, c.last},
			{"Close", true, true, c.close}, {"Close after CloseRead", false, true, c.close}} {
			var got result
			got.to, got.tell = c.own.finish(c.peer, how.reads, how.both)
			require.Equal(t, how.want, got, "%s: %s", name, how.name)
		}
	}
}

// TestEndOfPeer follows the peer's words, in any order.
func TestEndOfPeer(t *testing.T) {
	for _, c := range []struct {
		words              []uint32
		finished, hangedUp bool
	}{
		{},
		{words: []uint32{wire.CtrlUnread}},
		{words: []uint32{1, 3, 1 << 20}},
		{words: []uint32{wire.CtrlShutdown}, finished: true},
		{words: []uint32{wire.CtrlDisconnect}, finished: true, hangedUp: true},
		{words: []uint32{wire.CtrlShutdown, wire.CtrlDisconnect}, finished: true, hangedUp: true},
		{words: []uint32{wire.CtrlDisconnect, wire.CtrlShutdown}, finished: true, hangedUp: true},
	} {
		var e end
		for _, w := range c.words {
			e.hear(w)
		}
		require.Equal(t, c.finished, e.finished(), "%v", c.words)
		require.Equal(t, c.hangedUp, e.disconnected(), "%v", c.words)
	}
	require.Equal(t, wire.MakeWord(wire.OpCtrl, wire.CtrlShutdown), endFinished.word())
	require.Equal(t, wire.MakeWord(wire.OpCtrl, wire.CtrlDisconnect), endDisconnected.word())
}
