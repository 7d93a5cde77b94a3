package rdmanet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

const (
	wordLimit      = 0x80000000
	wordIomap      = 0xc0000000
	wordDisconnect = 0xe0000000
	wordKeepalive  = 0xe0000001
	wordShutdown   = 0xe0000002
)

// What a plain rsocket sees of a Conn: connection data of exactly 40 bytes.
func TestConnectionDataOnTheWire(t *testing.T) {
	t.Run("answer to a plain rsocket", func(t *testing.T) {
		p, c, _ := dialRaw(t, nil, nil)
		require.False(t, c.Extended())
		require.Len(t, p.answer, 40)
		require.Equal(t, []byte{1, 2}, p.answer[:2])
		require.Equal(t, []byte{0, 0, 0, 16}, p.answer[4:8], "16 entries for exposed memory")
		require.EqualValues(t, 2, binary.BigEndian.Uint32(p.answer[20:]))
		require.EqualValues(t, 1<<18, p.ringLen, "half of what a connection begins with")
		require.GreaterOrEqual(t, p.credits, uint16(16))
	})
	t.Run("plain request", func(t *testing.T) {
		p, c, err := acceptRaw(t, &rdmanet.Config{Plain: true}, nil)
		require.NoError(t, err)
		require.False(t, c.Extended())
		require.Len(t, p.answer, 40)
	})
	t.Run("offer of the extension", func(t *testing.T) {
		p, c, err := acceptRaw(t, nil, nil)
		require.NoError(t, err)
		require.False(t, c.Extended(), "the peer did not take it up")
		require.Equal(t, "iWAR", string(p.answer[40:44]))
		require.LessOrEqual(t, len(p.answer), 251)
	})
	t.Run("unasked extension", func(t *testing.T) {
		_, c, err := acceptRaw(t, &rdmanet.Config{Plain: true}, func(b []byte) []byte { return append(b, "iWAR\x01\x01"...) })
		require.NoError(t, err)
		require.False(t, c.Extended())
	})
	t.Run("big-endian initiator", func(t *testing.T) {
		p, c, _ := dialRaw(t, nil, func(b []byte) []byte { b[1] |= 1; return b })
		require.Equal(t, byte(3), p.answer[1], "the answer must mirror the flag")
		p.waitedFor(c, "hello")
		addr, key, n := p.entry(1)
		require.Equal(t, []any{p.ringAt + 1<<18, p.ringKey, uint32(1 << 18)}, []any{addr, key, n})
		_, err := c.Write([]byte("world"))
		require.NoError(t, err)
		p.expect(5)
		require.Equal(t, "world", string(p.ring[:5]))
	})
	t.Run("big-endian responder", func(t *testing.T) {
		// It reads what we write to it in its own order, and writes to us in ours.
		p, c, err := acceptRaw(t, &rdmanet.Config{Plain: true}, func(b []byte) []byte { b[1] |= 1; return b })
		require.NoError(t, err)
		p.expect(wordLimit | uint32(p.credits))
		_, key, n := p.entry(1)
		require.Equal(t, p.ringKey, key)
		require.EqualValues(t, 1<<18, n)
		_, err = c.Write(make([]byte, rawRing/2))
		require.NoError(t, err)
		b := binary.LittleEndian.AppendUint64(nil, p.ringMR.Base()+rawRing/2)
		b = binary.LittleEndian.AppendUint32(b, uint32(p.ringMR.STag()))
		b = binary.LittleEndian.AppendUint32(b, rawRing/2)
		p.post(transport.SendWR{Opcode: transport.OpWrite, Data: b, RemoteSTag: p.tableKey, RemoteOffset: p.tableAt + 16})
		p.send(wordLimit | rawCredits)
		n2, err := c.Write(make([]byte, rawRing/2))
		require.NoError(t, err)
		require.Equal(t, rawRing/2, n2)
	})
}

func TestConnectionDataRefused(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"none":       func([]byte) []byte { return nil },
		"short":      func(b []byte) []byte { return b[:39] },
		"version 2":  func(b []byte) []byte { b[0] = 2; return b },
		"one entry":  func(b []byte) []byte { b[23] = 1; return b },
		"a bad tail": func(b []byte) []byte { return append(b, "iWAR\x01\x00\x01\x09"...) },
	} {
		t.Run(name+"/request", func(t *testing.T) {
			n := prepare(t, setting{}, rawOptions)
			p := newRawPeer(t, n.k.QueuePair(), change)
			done := make(chan error, 1)
			go func() {
				_, err := n.k.Connect(testContext(t), p.private)
				done <- err
			}()
			r, err := n.accept()
			require.NoError(t, err)
			c, err := rdmanet.Server(testContext(t), r, nil)
			require.Error(t, err)
			require.Nil(t, c)
			err = <-done
			var rejected *transport.RejectedError
			require.ErrorAs(t, err, &rejected)
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			require.Empty(t, rejected.PrivateData)
			require.ErrorIs(t, r.QueuePair().Err(), net.ErrClosed)
		})
		t.Run(name+"/answer", func(t *testing.T) {
			p, c, err := acceptRaw(t, nil, change)
			require.Error(t, err)
			require.Nil(t, c)
			_, err = p.next(limit)
			require.Error(t, err, "the connection must be closed")
			require.NotErrorIs(t, err, errQuiet)
		})
	}
}

func TestRejectedByPeer(t *testing.T) {
	n := prepare(t, setting{}, nil)
	done := make(chan error, 1)
	go func() {
		_, err := rdmanet.Client(testContext(t), n.k, nil)
		done <- err
	}()
	r, err := n.accept()
	require.NoError(t, err)
	require.NoError(t, r.Reject([]byte("no")))
	require.ErrorIs(t, <-done, syscall.ECONNREFUSED)
	require.ErrorIs(t, n.k.QueuePair().Err(), net.ErrClosed)
}

func TestConfigRefused(t *testing.T) {
	for _, cfg := range []rdmanet.Config{{RingSize: 100}, {RingSize: 1 << 30}, {RingSize: -1}, {Credits: 15}, {Credits: 40000}, {Credits: -1}, {MaxSegment: 100}, {MaxSegment: 1 << 20}} {
		n := prepare(t, setting{}, nil)
		_, err := rdmanet.Client(testContext(t), n.k, &cfg)
		require.ErrorContains(t, err, "out of range; use")
		require.ErrorIs(t, n.k.QueuePair().Err(), net.ErrClosed)
	}
	for _, o := range []transport.Options{{RecvDepth: 8}, {SendDepth: 8}} {
		n := prepare(t, setting{}, &o)
		_, err := rdmanet.Client(testContext(t), n.k, nil)
		require.ErrorContains(t, err, "too short for a stream; use")
		require.ErrorIs(t, n.k.QueuePair().Err(), net.ErrClosed)
	}
}

// TestWorkedExample follows the recorded dialogue of the C library: the raw peer is the client, its
// rings are its.
func TestWorkedExample(t *testing.T) {
	p, s, _ := dialRaw(t, &rdmanet.Config{RingSize: rawRing}, nil)
	p.waitedFor(s, "hello")
	addr, key, length := p.entry(1)
	require.Equal(t, []any{p.ringAt + 65536, p.ringKey, uint32(65536)}, []any{addr, key, length})

	// The server writes more than was granted, and waits.
	want := pattern(102400)
	wait := background(t, func() {
		if n, err := s.Write(want); n != len(want) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
	})
	p.expectData(65536, 65536)
	p.grant(1, 65536, 65536, 384)
	p.expectData(36864, 65536)
	wait()
	require.True(t, bytes.Equal(want, p.ring[:len(want)]))
	p.grant(0, 0, 65536, 387)
	_, err := s.Write([]byte("at the old place"))
	require.NoError(t, err)
	p.expect(16)
	require.Equal(t, "at the old place", string(p.ring[102400:102416]), "the space begun must be filled first")
	p.send(wordDisconnect)
	b := make([]byte, 100)
	n, err := s.Read(b)
	require.Zero(t, n)
	require.Equal(t, io.EOF, err)
	_, err = s.Write(b)
	require.NoError(t, err, "the first Write is taken, as a socket takes it")
	_, err = s.Write(b)
	requireOpError(t, s, err, "write", syscall.EPIPE)
	require.NoError(t, s.Close())
	_, err = p.next(limit)
	require.Equal(t, io.EOF, err, "nothing is said after the peer's farewell")
}

// The initiator speaks first, which lets a careful responder speak.
func TestInitiatorSpeaksFirst(t *testing.T) {
	for _, plain := range []bool{false, true} {
		p, _, err := acceptRaw(t, &rdmanet.Config{Plain: plain, RingSize: rawRing}, nil)
		require.NoError(t, err)
		p.expect(wordLimit | uint32(p.credits))
		_, _, n := p.entry(1)
		require.EqualValues(t, 65536, n)
	}
}

func TestReserveTowardsRsocket(t *testing.T) {
	p, c, _ := dialRaw(t, nil, nil)
	p.grant(1, 65536, 65536, rawCredits)
	n := 0
	for blocked := 0; blocked < 3; blocked++ { // one that times out may be due to a busy machine
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		k, err := c.Write([]byte{byte(n)})
		for n += k; err == nil; n += k {
			k, err = c.Write([]byte{byte(n)})
		}
		requireTimeout(t, err, "write")
	}
	require.Equal(t, rawCredits-rawCredits/8, n, "an eighth of the receives is for other words")
	c.SetWriteDeadline(time.Time{})
	p.send(wordLimit | uint32(rawCredits+1))
	_, err := c.Write([]byte("x"))
	require.NoError(t, err)
}

func TestWordsThatAreIgnored(t *testing.T) {
	p, c, _ := dialRaw(t, nil, nil)
	p.send(wordLimit|rawCredits, wordLimit|rawCredits, wordKeepalive, 0xe0000063)
	p.post(transport.SendWR{Opcode: transport.OpWrite, RemoteSTag: 0, RemoteOffset: 0})          // keepalive
	p.post(transport.SendWR{Opcode: transport.OpWrite, RemoteSTag: 77, RemoteOffset: 1<<64 - 1}) // to nowhere
	p.data([]byte("abc"))
	p.send(wordShutdown)
	p.grant(1, 65536, 65536, rawCredits+2) // after the end of what it writes
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "abc", string(got))
	_, err = c.Write(make([]byte, rawRing))
	require.NoError(t, err, "the grant behind SHUTDOWN counts")
	// Everything after DISCONNECT is ignored, also what would be wrong.
	p.send(wordDisconnect, wordLimit, 0x20000000)
	p.grant(0, 0, 65536, 3)
	for err == nil {
		_, err = c.Write(make([]byte, 1<<16))
	}
	requireOpError(t, c, err, "write", syscall.EPIPE)
	_, err = c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
}

// Bytes may be cut and mixed with other words in every way.
func TestDataInPieces(t *testing.T) {
	p, c, _ := dialRaw(t, nil, nil)
	want := pattern(1000)
	for i := 0; i < len(want); i += 100 {
		p.place(uint64(i), want[i:i+100])
		if i == 300 {
			p.send(wordLimit | rawCredits)
		}
	}
	p.send(1, 499, wordKeepalive, 499, 0, 1)
	got := make([]byte, len(want))
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, want, got)

	// Bytes that are not announced must not be given out, nor be lost when a Read ends before they
	// are.
	p.place(1000, []byte("later"))
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	n, err := c.Read(got)
	require.Zero(t, n)
	requireTimeout(t, err, "read")
	clear(got)
	c.SetReadDeadline(time.Time{})
	p.send(2)
	n, err = c.Read(got)
	require.NoError(t, err)
	require.Equal(t, "la", string(got[:n]))
	p.send(3)
	n, err = c.Read(got)
	require.NoError(t, err)
	require.Equal(t, "ter", string(got[:n]))
}

// An rsocket that maps memory pays each mapping with a credit, which it must get back.
func TestIomapCountsAsMessage(t *testing.T) {
	p, c, _ := dialRaw(t, nil, nil)
	read := background(t, func() { io.ReadAll(c) })
	p.expect(wordLimit | uint32(p.credits))
	for i := range p.credits {
		p.expose(int(i%16), 0, p.ringMR, 1)
	}
	w, err := p.next(limit)
	require.NoError(t, err)
	require.GreaterOrEqual(t, uint16(w)-p.credits, p.credits/2)
	p.send(wordDisconnect)
	read()
}

func TestProtocolViolations(t *testing.T) {
	for _, v := range []struct {
		name string
		do   func(p *rawPeer)
	}{
		{"operation 1", func(p *rawPeer) { p.send(1<<29 | 1) }},
		{"operation 2", func(p *rawPeer) { p.send(2<<29 | 1) }},
		{"operation 3", func(p *rawPeer) { p.send(3<<29 | 1) }},
		{"operation 5", func(p *rawPeer) { p.send(5<<29 | 1) }},
		{"short word", func(p *rawPeer) { p.post(transport.SendWR{Opcode: transport.OpSend, Data: make([]byte, 3)}) }},
		{"empty word", func(p *rawPeer) { p.post(transport.SendWR{Opcode: transport.OpSend}) }},
		{"long word", func(p *rawPeer) { p.post(transport.SendWR{Opcode: transport.OpSend, Data: make([]byte, 5)}) }},
		{"data that was not placed", func(p *rawPeer) { p.send(1) }},
		{"more data than was placed", func(p *rawPeer) { p.place(4, make([]byte, 10)); p.send(11) }},
		{"a gap in the ring", func(p *rawPeer) { p.place(5, make([]byte, 10)) }},
		{"bytes placed again", func(p *rawPeer) { p.place(3, make([]byte, 1)) }},
		{"more than was granted", func(p *rawPeer) {
			for off := uint64(4); off < 1<<20; off += 4096 {
				p.place(off, make([]byte, min(4096, 1<<20-off)))
			}
			p.place(0, make([]byte, 1))
		}},
		{"outside the ring", func(p *rawPeer) { p.place(1<<20, make([]byte, 1)) }},
		{"outside the table", func(p *rawPeer) {
			p.post(transport.SendWR{Opcode: transport.OpWrite, Data: make([]byte, 17), RemoteSTag: p.tableKey, RemoteOffset: p.tableAt + 400})
		}},
		{"more messages than credits", func(p *rawPeer) {
			p.place(4, make([]byte, 2000))
			// In one segment, as credits come back whenever the Conn looks.
			require.NoError(p.t, p.qp.SetMaxSegment(1<<15))
			words := make([]transport.SendWR, 200)
			for i := range words {
				words[i] = p.word(1)
			}
			p.post(words...)
		}},
		{"limit backwards", func(p *rawPeer) { p.send(wordLimit | (rawCredits - 1)) }},
		{"space beyond 64 bits", func(p *rawPeer) {
			b := append(bytes.Repeat([]byte{0xff}, 8), 1, 0, 0, 0, 2, 0, 0, 0)
			p.post(transport.SendWR{Opcode: transport.OpWrite, Data: b, RemoteSTag: p.tableKey, RemoteOffset: p.tableAt + 16})
			p.send(wordLimit | rawCredits)
		}},
		{"an entry beyond the table", func(p *rawPeer) { p.send(wordIomap | 16) }},
		{"an entry that was not written", func(p *rawPeer) { p.send(wordIomap | 3) }},
		{"half an entry", func(p *rawPeer) {
			p.post(transport.SendWR{Opcode: transport.OpWrite, Data: make([]byte, 12), RemoteSTag: p.tableKey, RemoteOffset: p.tableAt + 32})
			p.send(wordIomap)
		}},
		{"exposed offsets beyond 64 bits", func(p *rawPeer) { p.expose(0, 1<<64-8, p.ringMR, 9) }},
		{"data after the end", func(p *rawPeer) { p.send(wordShutdown); p.place(4, make([]byte, 1)); p.send(1) }},
	} {
		t.Run(v.name, func(t *testing.T) {
			p, c, _ := dialRaw(t, nil, nil)
			p.data([]byte("good"))
			_, err := io.ReadFull(c, make([]byte, 1))
			require.NoError(t, err)
			v.do(p)
			// What came before is still delivered; the violation ends the connection.
			rest := make([]byte, 4<<20)
			n, err := io.ReadFull(c, rest)
			if err == io.ErrUnexpectedEOF || err == io.EOF {
				require.Equal(t, "data after the end", v.name)
			} else {
				requireOpError(t, c, err, "read", syscall.ECONNRESET)
				var te *transport.TerminateError
				if !errors.As(err, &te) {
					require.ErrorIs(t, err, rdmanet.ErrProtocol)
				}
			}
			require.GreaterOrEqual(t, n, 3)
			require.Equal(t, "ood", string(rest[:3]))
			_, err = c.Write(make([]byte, 1<<20))
			require.Error(t, err)
			requireOpError(t, c, err, "write", syscall.ECONNRESET)
			for err = error(nil); err == nil; {
				_, err = p.next(limit)
			}
			var told *transport.TerminateError
			require.ErrorAs(t, err, &told, "the peer is not told")
			require.False(t, told.Local)
		})
	}
}

// A peer that sends words without end must not take memory, nor keep a call from its deadline.
func TestFloodOfWords(t *testing.T) {
	p, c, _ := dialRaw(t, nil, nil)
	stop := make(chan struct{})
	wait := background(t, func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			w := p.word(wordLimit | rawCredits)
			w.Flags = transport.Inline
			if _, err := p.qp.PostSend([]transport.SendWR{w}); err != nil && !errors.Is(err, transport.ErrQueueFull) {
				return
			}
			if err := p.qp.Drain(time.Now().Add(limit)); err != nil {
				return
			}
		}
	})
	start := time.Now()
	c.SetReadDeadline(start.Add(100 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	if !isTimeout(err) {
		// More words than receives: the transport has ended it.
		requireOpError(t, c, err, "read", syscall.ECONNRESET)
	}
	require.Less(t, time.Since(start), 100*time.Millisecond+lateness)
	close(stop)
	c.Close()
	wait()
}

func TestServerPrefersItsOwnAddress(t *testing.T) {
	e := connect(t, setting{})
	require.Equal(t, e.a.LocalAddr().String(), e.b.RemoteAddr().String())
	require.Equal(t, e.b.LocalAddr().String(), e.a.RemoteAddr().String())
	require.Equal(t, "tcp", e.a.LocalAddr().Network())
	require.True(t, strings.HasPrefix(e.a.LocalAddr().String(), "127.0.0.1:"))
}
