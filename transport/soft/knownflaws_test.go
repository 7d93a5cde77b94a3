package soft_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// The tests of this file are named after flaws of other implementations. Each has the kind of input
// that sets off the flaw there. docs/security.md has the list.

// CVE-2026-98323 (siw): a header that comes in several pieces, copied with the length of the whole.
// Here each header of each opcode comes in three, cut at every pair of places.
func TestCVE2026_98323(t *testing.T) {
	t.Parallel()
	var x target
	var region transport.MemoryRegion
	mem := make([]byte, 64)
	q, p, _ := role{prepare: func(q transport.QueuePair) {
		x.prepare(t)(q)
		region = register(t, q, mem, transport.LocalWrite)
	}}.responder(t)
	p.write(rtrWrite())
	var msn, asked uint32
	for _, tc := range []struct {
		name   string
		header int
		fpdu   func() []byte
		check  func()
	}{
		{"write", ddp.TaggedLen, func() []byte {
			clear(x.mem)
			return write(x.ring, 8, []byte("written"))
		}, func() {
			require.Equal(t, "written", string(x.mem[8:15]))
			require.Equal(t, make([]byte, 49), x.mem[15:])
		}},
		{"send", ddp.UntaggedLen, func() []byte {
			msn++
			return send(msn, []byte("sent"))
		}, func() { require.Equal(t, 4, next(t, q).Bytes) }},
		{"read request", ddp.UntaggedLen + rdmap.ReadRequestLen, func() []byte {
			asked++
			return readRequest(asked, rdmap.ReadRequest{SinkSTag: asked, Size: 9, SrcSTag: uint32(x.readable), SrcTO: 3})
		}, func() { require.Equal(t, x.source[3:12], p.nextOfUser().Payload) }},
		{"read response", ddp.TaggedLen, func() []byte {
			clear(mem)
			post(t, q, transport.SendWR{Opcode: transport.OpRead, Flags: transport.Signaled, Data: mem[32:40], Region: region, RemoteSTag: 1})
			r, err := rdmap.ParseReadRequest(p.nextOfUser().Payload)
			require.NoError(t, err)
			return tagged(rdmap.OpReadResponse, true, transport.STag(r.SinkSTag), r.SinkTO, []byte("response"))
		}, func() {
			require.Equal(t, transport.Completion{Opcode: transport.OpRead, Bytes: 8}, next(t, q))
			require.Equal(t, "response", string(mem[32:40]))
			require.Equal(t, make([]byte, 24), mem[40:])
		}},
	} {
		end := mpa.LengthLen + tc.header
		step := 1 + end/24 // of the longest header, every third place
		for i := 1; i <= end; i += step {
			for j := i; j <= end; j += step {
				b := tc.fpdu()
				_, err := q.PostRecv([]transport.RecvWR{{Data: mem[:8], Region: region}})
				require.NoError(t, err)
				if tc.name == "send" {
					_, err := q.PostRecv([]transport.RecvWR{{Data: mem[:8], Region: region}})
					require.NoError(t, err)
				}
				for _, piece := range [][]byte{b[:i], b[i:j], b[j:]} {
					p.write(piece)
					q.(transport.Looker).Look()
				}
				msn++
				p.write(send(msn, []byte("then")))
				if tc.name == "read response" || tc.name == "send" {
					tc.check()
				}
				require.Equal(t, 4, next(t, q).Bytes)
				if tc.name == "write" || tc.name == "read request" {
					tc.check()
				}
			}
		}
	}
	require.NoError(t, q.Err())
}

// CVE-2026-64102 (siw): an MPA length below that of the header, which makes what is left of the
// segment negative. The rest of the header is there, behind the length.
func TestCVE2026_64102(t *testing.T) {
	t.Parallel()
	noCRC := role{cfg: &soft.Config{NoCRC: true}, frame: mpa.Frame{Revision: mpa.Rev2, Flags: mpa.FlagEnhanced,
		Enhanced: mpa.Enhanced{IRD: 16, ORD: 16}}}
	for op := rdmap.OpWrite; op <= rdmap.OpTerminate; op++ {
		header := (&ddp.Untagged{Last: true, ULP: rdmap.Control(op), QN: op.Queue(), MSN: 1}).Append(nil)
		least := ddp.UntaggedLen
		switch {
		case op.Tagged():
			header = (&ddp.Tagged{Last: true, ULP: rdmap.Control(op), STag: 1}).Append(nil)
			least = ddp.TaggedLen
		case op == rdmap.OpReadRequest:
			least += rdmap.ReadRequestLen
		case op == rdmap.OpTerminate:
			least += rdmap.TerminateLen
		}
		for n := range least {
			var x target
			r := noCRC
			r.prepare = x.prepare(t)
			q, p, _ := r.responder(t)
			fpdu := binary.BigEndian.AppendUint16(nil, uint16(n))
			p.write(append(append(fpdu, header...), make([]byte, 128)...))
			_, err := finish(t, q)
			var te *transport.TerminateError
			require.ErrorAs(t, err, &te, "%v of %d", op, n)
			require.Equal(t, rdmap.ErrMPALength.Text(), te.Text, "%v of %d", op, n)
			require.Equal(t, make([]byte, 32), x.recv)
			require.NoError(t, q.Abort())
			require.NoError(t, p.c.Close())
		}
	}
}

// CVE-2026-64268 (siw): Read Responses that go on past what was asked for, as none is the last.
func TestCVE2026_64268(t *testing.T) {
	t.Parallel()
	for size := 1; size <= 17; size++ {
		x := newReader(t, nil)
		post(t, x.q, x.wr(2))
		r := x.request(t, 1)
		var all []byte
		for at := 0; at < 64; at += size {
			all = append(all, answer(r, false, at, bytes.Repeat([]byte{0xee}, size))...)
		}
		x.p.write(all)
		wc, err := finish(t, x.q)
		require.ErrorContains(t, err, "base or bounds", size)
		require.Len(t, wc, 1)
		require.NotEqual(t, transport.StatusSuccess, wc[0].Status)
		require.NotContains(t, string(x.sink[:32]), "\xee")
		require.NotContains(t, string(x.sink[48:]), "\xee", "beyond the sink")
	}
}

// CVE-2026-23242 (siw): an error in a state in which what handles it is not there yet. The stream
// breaks, or goes mad, after each byte of the set-up and of what follows.
func TestCVE2026_23242(t *testing.T) {
	t.Parallel()
	var x target
	asks := (&role{}).peerFrame(false)
	_, first := connectTarget(t, nil)
	first.c.Close()
	rest := concat(rtrWrite(), untagged(untaggedHeader{op: rdmap.OpSend, more: true}, []byte("se")),
		readRequest(1, rdmap.ReadRequest{}), untagged(untaggedHeader{op: rdmap.OpSend, mo: 2}, []byte("nt")))
	all := concat(asks, rest)
	for cut := range len(all) + 1 {
		for name, breaks := range map[string]func(p *rawPeer){
			"end":   func(p *rawPeer) { require.NoError(t, p.c.CloseWrite()) },
			"reset": func(p *rawPeer) { require.NoError(t, p.c.SetLinger(0)); require.NoError(t, p.c.Close()) },
			"mad":   func(p *rawPeer) { p.write(make([]byte, 600)); require.NoError(t, p.c.CloseWrite()) },
		} {
			a, b := tcpPair(t)
			p := rawConn(t, a)
			p.write(all[:cut])
			if cut < len(asks) {
				breaks(p)
			}
			req, err := soft.New(nil).Server(testContext(t), b, nil)
			if cut < len(asks) {
				// A request that is made whole by zeros is as good as any.
				require.True(t, err != nil || name == "mad", "%s after %d", name, cut)
			}
			if err == nil {
				q := req.QueuePair()
				x.prepare(t)(q)
				if cut >= len(asks) {
					breaks(p)
				}
				if err = req.Accept(testContext(t), nil); err == nil {
					_, err = finish(t, q)
				}
				require.Error(t, err, "%s after %d", name, cut)
				_ = q.Close()
			}
			_ = p.c.Close()
			_ = b.Close()
		}
	}
}

// CVE-2021-47012, CVE-2024-57857, CVE-2024-53094 (siw): memory, or the device that it belongs to,
// given back while the peer uses it. Once Deregister has returned, nothing is written to the
// memory, and nothing of what is in it then reaches the peer.
func TestCVE2021_47012(t *testing.T) {
	t.Parallel()
	for round := range 40 {
		q, p, _ := role{}.responder(t)
		mem := make([]byte, 256)
		region := register(t, q, mem, transport.LocalWrite|transport.RemoteRead|transport.RemoteWrite)
		p.write(rtrWrite())
		post(t, q, transport.SendWR{Opcode: transport.OpRead, Data: mem[128:144], Region: region, RemoteSTag: 1})
		r, err := rdmap.ParseReadRequest(p.nextOfUser().Payload)
		require.NoError(t, err)
		stag := region.STag()
		all := tagged(rdmap.OpReadResponse, true, transport.STag(r.SinkSTag), r.SinkTO, make([]byte, 16))
		if round%4 > 0 {
			all = nil
		}
		for i := range 8 {
			all = append(all, readRequest(uint32(i+1), rdmap.ReadRequest{Size: 64, SrcSTag: uint32(stag)})...)
			all = append(all, write(stag, 0, []byte("written"))...)
		}
		p.write(all)
		given := func() {
			require.NoError(t, region.Deregister())
			for i := range mem {
				mem[i] = 0xdd
			}
		}
		var wg sync.WaitGroup
		if round%2 == 0 {
			given()
			wg.Go(func() { finishes(q) })
		} else {
			wg.Go(func() { finishes(q) })
			given()
		}
		require.NoError(t, p.c.CloseWrite())
		wg.Wait()
		require.Equal(t, bytes.Repeat([]byte{0xdd}, len(mem)), mem)
		require.NoError(t, q.Close())
		got, _ := io.ReadAll(p.c)
		require.NotContains(t, string(got), "\xdd\xdd\xdd\xdd")
		require.NoError(t, p.c.Close())
	}
}

// finishes takes all that q has to tell.
func finishes(q transport.QueuePair) {
	for q.Wait(soon()) == nil {
		q.Poll(make([]transport.Completion, 4))
	}
}

// CVE-2024-42285, CVE-2025-38211, CVE-2026-45898 (iw_cm): a connection's name given back while work
// for it waits. Both ends and the listener are closed while connections are being made, and nobody
// is left waiting for an answer.
func TestCVE2024_42285(t *testing.T) {
	t.Parallel()
	for round := range 12 {
		ln, err := soft.New(nil).Listen(testContext(t), transporttest.Loopback, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(testContext(t))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				c, err := soft.New(nil).Dial(testContext(t), netip.AddrPort{}, ln.Addr(), nil)
				if err != nil {
					return
				}
				var closing sync.WaitGroup
				if i%2 == 0 {
					closing.Go(func() { _ = c.Close() })
				}
				_, err = c.Connect(testContext(t), []byte("hello"))
				require.NotErrorIs(t, err, transport.ErrHandshakeTimeout)
				_ = c.QueuePair().Close()
				closing.Wait()
				_ = c.Close()
			})
		}
		wg.Go(func() {
			defer ln.Close()
			for i := 0; ; i++ {
				req, err := ln.Accept(ctx)
				if err != nil {
					return
				}
				wg.Go(func() {
					q := req.QueuePair()
					var closing sync.WaitGroup
					if i%3 == 0 {
						closing.Go(func() { _ = q.Abort() })
					}
					if i%3 == 1 {
						_ = req.Reject(nil)
					} else {
						_ = req.Accept(ctx, nil)
					}
					closing.Wait()
					_ = q.Close()
				})
				if i == round%8 {
					_ = ln.Close()
				}
			}
		})
		time.AfterFunc(time.Duration(round)*100*time.Microsecond, cancel)
		wg.Wait()
		cancel()
	}
}

// CVE-2022-48925, CVE-2021-47392 (rdma_cm): calls in an order that nobody thought of. All orders of
// three calls on a request and on a connector leave nothing open, and bring at most one connection
// about.
func TestCVE2022_48925(t *testing.T) {
	t.Parallel()
	type call struct {
		name string
		do   func(c transport.Connector, r transport.Request) error
	}
	ctx := testContext(t)
	short := func() context.Context { // for what has nobody to answer it
		c, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
		t.Cleanup(cancel)
		return c
	}
	sides := map[string][]call{
		"request": {
			{"accept", func(_ transport.Connector, r transport.Request) error { return r.Accept(ctx, nil) }},
			{"reject", func(_ transport.Connector, r transport.Request) error { return r.Reject(nil) }},
			{"close", func(_ transport.Connector, r transport.Request) error { return r.QueuePair().Close() }},
			{"abort", func(_ transport.Connector, r transport.Request) error { return r.QueuePair().Abort() }},
		},
		"connector": {
			{"connect", func(c transport.Connector, _ transport.Request) error { _, err := c.Connect(short(), nil); return err }},
			{"close", func(c transport.Connector, _ transport.Request) error { return c.Close() }},
			{"close queue pair", func(c transport.Connector, _ transport.Request) error { return c.QueuePair().Close() }},
			{"abort", func(c transport.Connector, _ transport.Request) error { return c.QueuePair().Abort() }},
		},
	}
	for side, calls := range sides {
		for i := range len(calls) * len(calls) * len(calls) {
			order := []call{calls[i%len(calls)], calls[i/len(calls)%len(calls)], calls[i/len(calls)/len(calls)]}
			name := fmt.Sprint(side, ": ", order[0].name, ", ", order[1].name, ", ", order[2].name)
			a, b := tcpPair(t)
			p := rawConn(t, a)
			var c transport.Connector
			var r transport.Request
			var q transport.QueuePair
			if side == "request" {
				p.write((&role{}).peerFrame(false))
				var err error
				r, err = soft.New(nil).Server(ctx, b, nil)
				require.NoError(t, err)
				q = r.QueuePair()
			} else {
				if i%2 == 0 {
					p.write((&role{}).peerFrame(true))
				}
				var err error
				c, err = soft.New(nil).Client(b, nil)
				require.NoError(t, err)
				q = c.QueuePair()
			}
			made := 0
			for _, call := range order {
				if call.do(c, r) == nil && (call.name == "accept" || call.name == "connect") {
					made++
				}
			}
			require.LessOrEqual(t, made, 1, name)
			if c != nil {
				_ = c.Close()
			}
			_ = q.Abort()
			_, err := io.Copy(io.Discard, p.c)
			require.False(t, isTimeoutError(err), "%s: the socket is left open", name)
			require.NoError(t, p.c.Close())
		}
	}
}

func isTimeoutError(err error) bool {
	var te interface{ Timeout() bool }
	return errors.As(err, &te) && te.Timeout()
}
