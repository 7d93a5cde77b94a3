package rdmanet_test

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

const (
	rawRing    = 131072
	rawCredits = 384
	rawSlots   = 4096 // more than any test sends
)

// A rawPeer speaks the protocol by hand at the verbs level, as the C library does or as it should
// not.
type rawPeer struct {
	t     testing.TB
	qp    transport.QueuePair
	order binary.AppendByteOrder
	bytes binary.ByteOrder

	table, ring, slots []byte
	tableMR, ringMR    transport.MemoryRegion
	private            []byte // what it says when it connects

	// What the Conn has told.
	credits  uint16
	tableAt  uint64
	tableKey transport.STag
	ringAt   uint64
	ringKey  transport.STag
	ringLen  uint32
	answer   []byte
	pos      uint64 // bytes written to the ring
}

// newRawPeer registers memory and posts receives. change, if not nil, edits what the peer says.
func newRawPeer(t testing.TB, qp transport.QueuePair, change func([]byte) []byte) *rawPeer {
	t.Helper()
	p := &rawPeer{t: t, qp: qp, order: binary.LittleEndian, bytes: binary.LittleEndian,
		table: make([]byte, 32+24*128), ring: make([]byte, rawRing), slots: make([]byte, 4*rawSlots)}
	var err error
	p.tableMR, err = qp.RegisterMemory(p.table, transport.RemoteWrite|transport.CallerDriven)
	require.NoError(t, err)
	p.ringMR, err = qp.RegisterMemory(p.ring, transport.RemoteWrite|transport.CallerDriven)
	require.NoError(t, err)
	slots, err := qp.RegisterMemory(p.slots, transport.LocalWrite)
	require.NoError(t, err)
	wrs := make([]transport.RecvWR, rawSlots)
	for i := range wrs {
		wrs[i] = transport.RecvWR{ID: uint64(i), Data: p.slots[4*i:][:4], Region: slots}
	}
	_, err = qp.PostRecv(wrs)
	require.NoError(t, err)

	b := []byte{1, 2}
	b = binary.BigEndian.AppendUint16(b, rawCredits)
	b = append(b, 0, 0, 0, 0)
	for _, m := range []struct {
		mr transport.MemoryRegion
		n  uint32
	}{{p.tableMR, 2}, {p.ringMR, rawRing / 2}} {
		b = binary.BigEndian.AppendUint64(b, m.mr.Base())
		b = binary.BigEndian.AppendUint32(b, uint32(m.mr.STag()))
		b = binary.BigEndian.AppendUint32(b, m.n)
	}
	if change != nil {
		b = change(b)
	}
	p.private = b
	if len(b) > 1 && b[1]&1 != 0 {
		p.order, p.bytes = binary.BigEndian, binary.BigEndian
	}
	return p
}

// told takes in what the Conn said when it connected.
func (p *rawPeer) told(b []byte) {
	p.t.Helper()
	require.GreaterOrEqual(p.t, len(b), 40)
	p.answer = b
	p.credits = binary.BigEndian.Uint16(b[2:])
	p.tableAt, p.tableKey = binary.BigEndian.Uint64(b[8:]), transport.STag(binary.BigEndian.Uint32(b[16:]))
	p.ringAt, p.ringKey = binary.BigEndian.Uint64(b[24:]), transport.STag(binary.BigEndian.Uint32(b[32:]))
	p.ringLen = binary.BigEndian.Uint32(b[36:])
}

var rawOptions = &transport.Options{RecvDepth: rawSlots, SendDepth: 4096}

// dialRaw connects a raw peer, as the initiator, to a Conn.
func dialRaw(t testing.TB, cfg *rdmanet.Config, change func([]byte) []byte) (*rawPeer, *rdmanet.Conn, below) {
	t.Helper()
	return dialRawTo(t, setting{}, cfg, change)
}

// dialRawTo is dialRaw with a Conn on a transport of another kind.
func dialRawTo(t testing.TB, s setting, cfg *rdmanet.Config, change func([]byte) []byte) (*rawPeer, *rdmanet.Conn, below) {
	t.Helper()
	s.onlyServer = true
	n := prepare(t, s, rawOptions)
	p := newRawPeer(t, n.k.QueuePair(), change)
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := n.k.Connect(testContext(t), p.private)
		done <- result{answer, err}
	}()
	r, err := n.accept()
	require.NoError(t, err)
	c, err := rdmanet.Server(testContext(t), r, cfg)
	require.NoError(t, err)
	got := <-done
	require.NoError(t, got.err)
	p.told(got.answer)
	t.Cleanup(func() {
		c.Close()
		p.qp.Close()
	})
	return p, c, n
}

// acceptRaw connects a raw peer, as the responder, to a Conn.
func acceptRaw(t testing.TB, cfg *rdmanet.Config, change func([]byte) []byte) (*rawPeer, *rdmanet.Conn, error) {
	t.Helper()
	n := prepare(t, setting{}, rawOptions)
	type result struct {
		c   *rdmanet.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		c, err := rdmanet.Client(testContext(t), n.k, cfg)
		done <- result{c, err}
	}()
	r, err := n.accept()
	require.NoError(t, err)
	p := newRawPeer(t, r.QueuePair(), change)
	p.told(r.PrivateData())
	require.NoError(t, r.Accept(testContext(t), p.private))
	got := <-done
	t.Cleanup(func() {
		if got.c != nil {
			got.c.Close()
		}
		p.qp.Close()
	})
	return p, got.c, got.err
}

func (p *rawPeer) post(wrs ...transport.SendWR) {
	p.t.Helper()
	for i := range wrs {
		wrs[i].Flags |= transport.Inline
	}
	_, err := p.qp.PostSend(wrs)
	require.NoError(p.t, err)
}

func (p *rawPeer) word(w uint32) transport.SendWR {
	return transport.SendWR{Opcode: transport.OpSend, Data: p.order.AppendUint32(nil, w)}
}

func (p *rawPeer) send(words ...uint32) {
	p.t.Helper()
	for _, w := range words {
		p.post(p.word(w))
	}
}

// place writes data off bytes into the Conn's ring.
func (p *rawPeer) place(off uint64, data []byte) {
	p.t.Helper()
	p.post(transport.SendWR{Opcode: transport.OpWrite, Data: data, RemoteSTag: p.ringKey, RemoteOffset: p.ringAt + off})
}

// data sends one message.
func (p *rawPeer) data(b []byte) {
	p.t.Helper()
	p.place(p.pos, b)
	p.pos += uint64(len(b))
	p.send(uint32(len(b)))
}

// grant tells the Conn of space and a limit.
func (p *rawPeer) grant(index int, off uint64, n uint32, limit uint16) {
	p.t.Helper()
	b := p.order.AppendUint64(nil, p.ringMR.Base()+off)
	b = p.order.AppendUint32(b, uint32(p.ringMR.STag()))
	b = p.order.AppendUint32(b, n)
	p.post(transport.SendWR{Opcode: transport.OpWrite, Data: b, RemoteSTag: p.tableKey, RemoteOffset: p.tableAt + uint64(16*index)})
	p.send(0x80000000 | uint32(limit))
}

// expose tells the Conn of n bytes of a region, which it can write by the offsets from off on.
func (p *rawPeer) expose(index int, off uint64, mr transport.MemoryRegion, n uint32) {
	p.t.Helper()
	b := p.order.AppendUint64(nil, off)
	b = p.order.AppendUint64(b, mr.Base())
	b = p.order.AppendUint32(b, uint32(mr.STag()))
	b = p.order.AppendUint32(b, n)
	p.post(transport.SendWR{Opcode: transport.OpWrite, Data: b, RemoteSTag: p.tableKey, RemoteOffset: p.tableAt + uint64(32+24*index)})
	p.send(wordIomap | uint32(index))
}

var errQuiet = errors.New("the Conn says nothing")

// next waits for the Conn's next word.
func (p *rawPeer) next(patience time.Duration) (uint32, error) {
	p.t.Helper()
	var wc [1]transport.Completion
	deadline := time.Now().Add(patience)
	for p.qp.Poll(wc[:]) == 0 {
		switch err := p.qp.Wait(deadline); {
		case errors.Is(err, errDeadline):
			return 0, errQuiet
		case err != nil:
			return 0, err
		}
	}
	if wc[0].Status != transport.StatusSuccess {
		return 0, p.qp.Err()
	}
	require.Equal(p.t, transport.OpRecv, wc[0].Opcode)
	require.Equal(p.t, 4, wc[0].Bytes)
	return p.bytes.Uint32(p.slots[4*wc[0].ID:]), nil
}

// expect waits for words of the Conn's.
func (p *rawPeer) expect(words ...uint32) {
	p.t.Helper()
	for i, want := range words {
		got, err := p.next(limit)
		require.NoError(p.t, err)
		require.Equal(p.t, want, got, "word %d: %#x, want %#x", i, got, want)
	}
}

// expectBesideLimits is expect for a Conn that may also give credits, as it does to a peer that
// seems to be silent.
func (p *rawPeer) expectBesideLimits(want uint32) {
	p.t.Helper()
	got, err := p.next(limit)
	for err == nil && got>>29 == wordLimit>>29 {
		got, err = p.next(limit)
	}
	require.NoError(p.t, err)
	require.Equal(p.t, want, got, "%#x, want %#x", got, want)
}

// expectData waits for messages of n bytes of data in all, each of up to most.
func (p *rawPeer) expectData(n, most int) {
	p.t.Helper()
	for n > 0 {
		got, err := p.next(limit)
		require.NoError(p.t, err)
		require.LessOrEqual(p.t, got, uint32(min(n, most)))
		n -= int(got)
	}
}

// entry returns an entry of the table, and empties it.
func (p *rawPeer) entry(index int) (addr uint64, key transport.STag, n uint32) {
	b := p.table[16*index:][:16]
	addr, key, n = p.bytes.Uint64(b), transport.STag(p.bytes.Uint32(b[8:])), p.bytes.Uint32(b[12:])
	clear(b)
	return
}

// waitedFor sends data to a Conn that waits for it, which has granted the second half of its ring
// first.
func (p *rawPeer) waitedFor(c *rdmanet.Conn, data string) {
	p.t.Helper()
	b := make([]byte, len(data))
	heard := background(p.t, func() {
		if _, err := io.ReadFull(c, b); err != nil {
			p.t.Error(err)
		}
	})
	p.expect(wordLimit | uint32(p.credits))
	p.data([]byte(data))
	heard()
	require.Equal(p.t, data, string(b))
}
