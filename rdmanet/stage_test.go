package rdmanet

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

func newTestStage(t *testing.T, depth int) *stage {
	s, err := newStage(transport.Attributes{SendDepth: depth, MaxInline: 64})
	require.NoError(t, err)
	s.use(memory{b: make([]byte, stageSize)})
	return &s
}

// The stage and the send queue must come free again whatever the sizes, although most requests are
// not signaled.
func TestStageComesFree(t *testing.T) {
	for _, depth := range []int{minSendDepth, 64, 512} {
		for _, size := range []int{1, 64, 65, 4096, 65536, stageSize} {
			s := newTestStage(t, depth)
			var flying []uint64
			signaled, total := 0, 0
			for range 5000 {
				for !s.ready(size) {
					require.NotEmpty(t, flying, "depth %d, size %d: nothing is signaled, and nothing can be added", depth, size)
					s.sent(flying[0])
					flying = flying[1:]
				}
				staged := 0
				if !s.inlines(size) {
					staged = len(s.take(min(size, s.room())))
				}
				total++
				if id, flags := s.posted(2, staged); flags == transport.Signaled {
					flying = append(flying, id)
					signaled++
				}
				require.GreaterOrEqual(t, s.entries(), uint32(controlEntries))
				require.LessOrEqual(t, s.head-s.tail, uint64(stageSize))
			}
			for _, id := range flying {
				s.sent(id)
			}
			require.Equal(t, s.used-s.asked, uint32(depth)-s.entries())
			require.Equal(t, s.head-s.tail, s.owed)
			if size <= 4096 && depth == 512 {
				require.Less(t, signaled, total/15, "small messages are signaled too often")
			}
		}
	}
}

// The end of the stage cuts one message short, and no more than that one.
func TestStageEnd(t *testing.T) {
	c := &Conn{stage: *newTestStage(t, 512)}
	c.out.Start(&wire.ConnData{Credits: 384, Ring: wire.SGE{Addr: 0x1000, Key: 7, Length: 1 << 20}}, wire.LittleEndian, false, false)
	c.stage.take(stageSize - 16)
	c.stage.sent(stageSize - 16)
	b := new(batch)
	data := make([]byte, 32<<10)
	require.Equal(t, len(data), c.addData(b, data, 0))
	require.Equal(t, 4, b.n, "two Writes with a word each")
	require.Len(t, b.wrs[0].Data, 16)
	require.Zero(t, b.wrs[0].Flags&transport.Inline)
}

// Words that need no credit must fit the send queue when data has filled it.
func TestStageKeepsEntriesForWords(t *testing.T) {
	s := newTestStage(t, minSendDepth)
	for s.ready(1) {
		s.posted(2, 0)
	}
	grants := 0
	for s.controlReady() {
		s.posted(2, 0)
		grants++
	}
	require.GreaterOrEqual(t, grants, 4)
	require.GreaterOrEqual(t, s.entries(), uint32(4), "SHUTDOWN and DISCONNECT have no place")
}

// What goes to the send queue, on iWARP and where a word can be immediate data.
func TestMessageForms(t *testing.T) {
	const inline = transport.Inline
	type wr = transport.SendWR
	entry := []byte{0, 0x30, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0x10, 0, 0}
	for name, s := range map[string]struct {
		immediate bool
		add       func(c *Conn, b *batch)
		want      []wr
	}{
		"data": {false, func(c *Conn, b *batch) { c.addData(b, []byte("hello"), 0) }, []wr{
			{Opcode: transport.OpWrite, Flags: inline, Data: []byte("hello"), RemoteSTag: 7, RemoteOffset: 0x1000},
			{Opcode: transport.OpSend, Flags: inline, Data: []byte{5, 0, 0, 0}}}},
		"data, immediate": {true, func(c *Conn, b *batch) { c.addData(b, []byte("hello"), 0) }, []wr{
			{Opcode: transport.OpWriteImmediate, Flags: inline, Data: []byte("hello"), RemoteSTag: 7, RemoteOffset: 0x1000, Immediate: 5}}},
		"word": {false, func(c *Conn, b *batch) { c.addWord(b, wire.MakeWord(wire.OpCtrl, wire.CtrlShutdown), 0) }, []wr{
			{Opcode: transport.OpSend, Flags: inline, Data: []byte{2, 0, 0, 0xe0}}}},
		"word, immediate": {true, func(c *Conn, b *batch) { c.addWord(b, wire.MakeWord(wire.OpCtrl, wire.CtrlShutdown), 0) }, []wr{
			{Opcode: transport.OpWriteImmediate, Flags: inline, Immediate: 0xe0000002}}},
		"grant": {false, func(c *Conn, b *batch) { c.addGrant(b, 0) }, []wr{
			{Opcode: transport.OpWrite, Flags: inline, Data: entry, RemoteSTag: 8, RemoteOffset: 0x2010},
			{Opcode: transport.OpSend, Flags: inline, Data: []byte{0x80, 1, 0, 0x80}}}},
		"grant, immediate": {true, func(c *Conn, b *batch) { c.addGrant(b, 0) }, []wr{
			{Opcode: transport.OpWriteImmediate, Flags: inline, Data: entry, RemoteSTag: 8, RemoteOffset: 0x2010, Immediate: 0x80000180}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Conn{immediate: s.immediate, stage: *newTestStage(t, 512), peerTable: wire.SGE{Addr: 0x2000, Key: 8, Length: 2}}
			c.in.Start(wire.SGE{Addr: 0x2000, Key: 9, Length: 0x2000}, 384, 2, false)
			c.in.Ring.Addr = 0x2000
			c.out.Start(&wire.ConnData{Credits: 16, Ring: wire.SGE{Addr: 0x1000, Key: 7, Length: 100}}, wire.LittleEndian, false, s.immediate)
			b := new(batch)
			s.add(c, b)
			require.Equal(t, s.want, b.wrs[:b.n])
			require.EqualValues(t, 512-b.n, c.stage.entries())
		})
	}
}

// A peer on InfiniBand or RoCE repeats a message that finds no receive, so no credit has to stay
// unused.
func TestNoReserveWithImmediate(t *testing.T) {
	var o flow.Outbound
	o.Start(&wire.ConnData{Credits: 16, Ring: wire.SGE{Addr: 0, Key: 1, Length: 100}}, wire.LittleEndian, false, true)
	n := 0
	for o.Take(1).Length > 0 {
		n++
	}
	require.Equal(t, 16, n)
}
