package soft_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// patience bounds one run. It is only met by a hang.
const patience = limit

// script turns fuzzed bytes into a stream. With an odd first byte the rest is the stream. Otherwise
// it is a row of ULPDUs, each after one byte of its length, that get a good CRC, so that what
// comes after the CRC is reached; an STag below 8 stands for a region of x, which no fuzzer can
// guess.
func (x *target) script(b []byte, sink transport.STag) []byte {
	if len(b) == 0 {
		return nil
	}
	if b[0]&1 != 0 {
		return b[1:]
	}
	stags := [8]transport.STag{0, 1, x.ring, x.readable, x.writable, x.placer, x.dead, sink}
	name := func(p []byte, at int) {
		if len(p) < at+4 {
			return
		}
		if v := binary.BigEndian.Uint32(p[at:]); v < 8 {
			binary.BigEndian.PutUint32(p[at:], uint32(stags[v]))
		}
	}
	var stream []byte
	for b = b[1:]; len(b) > 0; {
		n := min(int(b[0]), len(b)-1)
		ulpdu := bytes.Clone(b[1 : 1+n])
		b = b[1+n:]
		name(ulpdu, 2)
		if len(ulpdu) > 1 && !ddp.IsTagged(ulpdu[0]) && rdmap.OpcodeOf(ulpdu[1]) == rdmap.OpReadRequest {
			name(ulpdu, ddp.UntaggedLen+16)
		}
		stream = append(stream, seal(ulpdu)...)
	}
	return stream
}

func ulpdus(fpdus ...[]byte) []byte {
	b := []byte{0}
	for _, f := range fpdus {
		ulpdu, err := mpa.CheckFPDU(f, true)
		if err != nil {
			panic(err)
		}
		b = append(append(b, byte(len(ulpdu))), ulpdu...)
	}
	return b
}

// FuzzStream feeds a connected queue pair whatever a peer might send. It must come to an end,
// whole, and touch no memory but that of its regions.
func FuzzStream(f *testing.F) {
	f.Add([]byte{1})
	f.Add(append([]byte{1}, send(1, []byte("raw"))...))
	f.Add(ulpdus(rtrWrite(), write(2, 3, []byte("ring")), send(1, []byte("one")), send(2, nil)))
	f.Add(ulpdus(readRequest(1, rdmap.ReadRequest{SinkSTag: 9, Size: 64, SrcSTag: 3}), readRequest(2, rdmap.ReadRequest{Size: 65, SrcSTag: 3})))
	f.Add(ulpdus(untagged(untaggedHeader{op: rdmap.OpSend, more: true}, []byte("se")), untagged(untaggedHeader{op: rdmap.OpSend, mo: 2}, []byte("nd"))))
	f.Add(ulpdus(untagged(untaggedHeader{op: rdmap.OpSendSEInvalidate, invalidate: 2}, nil), write(2, 0, []byte{1})))
	f.Add(ulpdus(tagged(rdmap.OpReadResponse, true, 7, 4, make([]byte, 24))))
	f.Add(ulpdus(tagged(rdmap.OpReadResponse, false, 7, 4, make([]byte, 8)), tagged(rdmap.OpReadResponse, true, 7, 12, make([]byte, 17))))
	f.Add(ulpdus(write(5, 0, []byte("placed")), write(6, 0, []byte("dead"))))
	f.Add(ulpdus(terminateFPDU(0x11, 1, 0, 0), send(1, nil)))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 32<<10 {
			return // fits the buffers of the kernel, so that writing does not block
		}
		var x target
		guarded := bytes.Repeat([]byte{0xa5}, 96)
		var region transport.MemoryRegion
		q, p, _ := role{prepare: func(q transport.QueuePair) {
			x.prepare(t)(q)
			region = register(t, q, guarded[32:64], transport.LocalWrite)
		}}.responder(t)
		p.write(rtrWrite())
		post(t, q, transport.SendWR{Opcode: transport.OpRead, Flags: transport.Signaled, Data: guarded[36:60], Region: region, RemoteSTag: 1})
		require.Equal(t, rdmap.OpReadRequest, p.next().Op)
		p.write(x.script(in, region.STag()))
		require.NoError(t, p.c.CloseWrite())

		end := time.Now().Add(patience)
		got, err := 0, error(nil)
		for err == nil {
			var wc [4]transport.Completion
			got += q.Poll(wc[:])
			err = q.Wait(end)
		}
		var te *transport.TerminateError
		switch {
		case errors.As(err, &te), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		default:
			t.Fatal(err)
		}
		require.Equal(t, 3, got, "two receives and a read")
		require.Equal(t, bytes.Repeat([]byte{0xa5}, 36), guarded[:36])
		require.Equal(t, bytes.Repeat([]byte{0xa5}, 36), guarded[60:])
		require.Equal(t, random(64), x.source, "nobody may write there")
		require.NoError(t, q.Abort())
		require.NoError(t, p.c.Close())
	})
}

// FuzzHandshake feeds either side of the set-up.
func FuzzHandshake(f *testing.F) {
	for _, asks := range []bool{false, true} {
		key := requestKey
		if asks {
			key = replyKey
		}
		f.Add(asks, []byte(key))
		f.Add(asks, start(key, 0x40, 1, []byte("private")))
		f.Add(asks, start(key, 0x50, 2, []byte{0x80, 16, 0xc0, 16, 'p'}))
		f.Add(asks, start(key, 0x50, 2, []byte{0x80, 0, 0, 0}))
		f.Add(asks, start(key, 0xd0, 2, []byte{0x3f, 0xff, 0x3f, 0xff}))
		f.Add(asks, start(key, 0x50, 2, []byte{1}))
		f.Add(asks, start(key, 0x20, 0, nil))
		f.Add(asks, append(start(key, 0x40, 1, nil), send(1, nil)...))
	}
	cfg := &soft.Config{RequestTimeout: patience, ReplyTimeout: patience}
	f.Fuzz(func(t *testing.T, asks bool, in []byte) {
		if len(in) > 32<<10 {
			return
		}
		a, b := tcpPair(t)
		defer a.Close()
		_, err := a.Write(in)
		require.NoError(t, err)
		// The end of the stream after a request would mean that nobody waits for the answer.
		whole := false
		if !asks && len(in) >= mpa.FrameHeaderLen {
			n, err := mpa.ParseHeader(in[:mpa.FrameHeaderLen], false)
			whole = err == nil && n <= len(in)
		}
		if !whole {
			require.NoError(t, a.CloseWrite())
		}
		var q transport.QueuePair
		if asks {
			c, err := soft.New(cfg).Client(b, nil)
			require.NoError(t, err)
			q = c.QueuePair()
			_, err = c.Connect(testContext(t), nil)
			require.NotErrorIs(t, err, transport.ErrHandshakeTimeout)
			if err != nil {
				require.ErrorIs(t, q.Err(), net.ErrClosed)
				return
			}
		} else {
			req, err := soft.New(cfg).Server(testContext(t), b, nil)
			require.NotErrorIs(t, err, transport.ErrHandshakeTimeout)
			if err != nil {
				return
			}
			require.LessOrEqual(t, len(req.PrivateData()), mpa.MaxPrivateData)
			q = req.QueuePair()
			require.NoError(t, req.Accept(testContext(t), nil))
			_ = a.CloseWrite()
		}
		require.NotErrorIs(t, q.Wait(time.Now().Add(patience)), transport.ErrInterrupted)
		require.Error(t, q.Err())
		require.NoError(t, q.Close())
	})
}
