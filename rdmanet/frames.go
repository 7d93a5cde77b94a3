package rdmanet

import (
	"fmt"

	"github.com/rdmanet/iwarp/internal/frames"
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// A frameSource is that of the queue pair, and knows what words say.
type frameSource struct {
	frames.Source
	order wire.Order
	table wire.SGE // of the peer
	iomap int      // entries after it
}

func init() {
	frames.OfStream = func(conn any) frames.Source {
		c, ok := conn.(*Conn)
		if !ok || c == nil {
			return nil
		}
		s, ok := transport.As[frames.Source](c.qp)
		if !ok {
			return nil
		}
		return &frameSource{s, c.order, c.peerTable, int(c.peerIomap)}
	}
}

// FrameReader implements frames.Source.
func (s *frameSource) FrameReader() func(*frames.Frame) frames.Text {
	read, order, table := s.Source.FrameReader(), s.order, s.table
	tableLen := wire.SGELen*uint64(table.Length) + wire.IomapEntryLen*uint64(s.iomap)
	return func(f *frames.Frame) frames.Text {
		t := read(f)
		switch {
		case t.Word != nil:
			t.Note = wordText(wire.Word(order.Uint32(t.Word)))
		case t.Tagged && f.Out && t.STag == table.Key && t.Offset-table.Addr < tableLen:
			t.Note = "to the table: space for the peer, or memory exposed to it"
		}
		return t
	}
}

// wordText says in words what w means.
func wordText(w wire.Word) string {
	switch op, v := w.Op(), w.Value(); op {
	case wire.OpData:
		return fmt.Sprintf("%d bytes were written", v)
	case wire.OpLimit:
		return fmt.Sprintf("the peer may send messages up to number %d", v)
	case wire.OpIomap:
		return fmt.Sprintf("entry %d of the table of exposed memory has changed", v)
	case wire.OpCtrl:
		switch v {
		case wire.CtrlDisconnect:
			return "disconnect: the connection is closed"
		case wire.CtrlShutdown:
			return "shutdown: nothing more will be written"
		case wire.CtrlUnread:
			return "not everything was read"
		}
	}
	return fmt.Sprintf("word %#08x, which is not known", uint32(w))
}
