package soft_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/sniff"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

const (
	requestKey = sniff.Key // so that what one part of the library sends the other recognizes
	replyKey   = "MPA ID Rep Frame"
)

// start writes out a start-up frame, right or wrong.
func start(key string, flags, rev byte, private []byte) []byte {
	return concat([]byte(key), []byte{flags, rev, byte(len(private) >> 8), byte(len(private))}, private)
}

// serve hands what a raw initiator sent to a server.
func serve(t testing.TB, cfg *soft.Config, o *transport.Options, sent []byte) (*rawPeer, transport.Request, error) {
	t.Helper()
	a, b := tcpPair(t)
	p := rawConn(t, a)
	p.write(sent)
	req, err := soft.New(cfg).Server(testContext(t), b, o)
	if err == nil {
		t.Cleanup(func() { req.QueuePair().Close() })
	}
	return p, req, err
}

func TestRequests(t *testing.T) {
	big := random(512)
	crc := &transport.Options{NoCRC: true}
	for name, tc := range map[string]struct {
		sent         []byte
		opts         *transport.Options
		private      []byte
		answer       []byte // with "ok" as private data
		ird, ord     int
		checksCRC    bool
		tooMuchToSay int // private data that does not fit the answer
	}{
		"revision 1":                   {sent: start(requestKey, 0x40, 1, []byte("p")), private: []byte("p"), answer: start(replyKey, 0x40, 1, []byte("ok")), ird: 16, ord: 16, checksCRC: true, tooMuchToSay: 513},
		"revision 1 without crc":       {sent: start(requestKey, 0, 1, nil), answer: start(replyKey, 0x40, 1, []byte("ok")), ird: 16, ord: 16, checksCRC: true},
		"revision 1, nobody wants crc": {sent: start(requestKey, 0, 1, nil), opts: crc, answer: start(replyKey, 0, 1, []byte("ok")), ird: 16, ord: 16},
		"crc for the initiator":        {sent: start(requestKey, 0x40, 1, nil), opts: crc, answer: start(replyKey, 0x40, 1, []byte("ok")), ird: 16, ord: 16, checksCRC: true},
		"revision 1, flags that mean nothing": {sent: start(requestKey, 0x3f, 1, []byte{1, 2}), private: []byte{1, 2},
			answer: start(replyKey, 0x40, 1, []byte("ok")), ird: 16, ord: 16, checksCRC: true},
		"revision 1, 512 bytes": {sent: start(requestKey, 0x40, 1, big), private: big, answer: start(replyKey, 0x40, 1, []byte("ok")), ird: 16, ord: 16, checksCRC: true},
		"revision 2 without words": {sent: start(requestKey, 0x40, 2, []byte("p")), private: []byte("p"),
			answer: start(replyKey, 0x40, 2, []byte("ok")), ird: 16, ord: 16, checksCRC: true},
		"revision 2, no rtr": {sent: start(requestKey, 0x50, 2, []byte{0, 4, 0, 8, 'p'}), private: []byte("p"),
			answer: start(replyKey, 0x50, 2, []byte{0, 16, 0, 4, 'o', 'k'}), ird: 16, ord: 4, checksCRC: true, tooMuchToSay: 509},
		"revision 2, 508 bytes": {sent: start(requestKey, 0x50, 2, append([]byte{0, 4, 0, 8}, big[:508]...)), private: big[:508],
			answer: start(replyKey, 0x50, 2, []byte{0, 16, 0, 4, 'o', 'k'}), ird: 16, ord: 4, checksCRC: true},
		"depths of none": {sent: start(requestKey, 0x50, 2, []byte{0, 0, 0, 0}),
			answer: start(replyKey, 0x50, 2, []byte{0, 16, 0, 0, 'o', 'k'}), ird: 16, checksCRC: true},
		"none for us": {sent: start(requestKey, 0x50, 2, []byte{0, 9, 0, 9}), opts: &transport.Options{IRD: -1, ORD: -1},
			answer: start(replyKey, 0x50, 2, []byte{0, 0, 0, 0, 'o', 'k'}), checksCRC: true},
		"more reads than offered": {sent: start(requestKey, 0x50, 2, []byte{0, 100, 0, 100}),
			answer: start(replyKey, 0x50, 2, []byte{0, 100, 0, 16, 'o', 'k'}), ird: 100, ord: 16, checksCRC: true},
		"more reads than can be": {sent: start(requestKey, 0x50, 2, []byte{0x3f, 0xfe, 0x3f, 0xfe}),
			answer: start(replyKey, 0x50, 2, []byte{0, 128, 0, 16, 'o', 'k'}), ird: 128, ord: 16, checksCRC: true},
		"more reads than usual, as asked for": {sent: start(requestKey, 0x50, 2, []byte{0x3f, 0xfe, 1, 0}), opts: &transport.Options{IRD: 200, ORD: 300},
			answer: start(replyKey, 0x50, 2, []byte{0, 200, 1, 44, 'o', 'k'}), ird: 200, ord: 300, checksCRC: true},
		"depths not to be negotiated": {sent: start(requestKey, 0x50, 2, []byte{0x3f, 0xff, 0x3f, 0xff}),
			answer: start(replyKey, 0x50, 2, []byte{0x3f, 0xff, 0x3f, 0xff, 'o', 'k'}), ird: 16, ord: 16, checksCRC: true},
		"rtr by write": {sent: start(requestKey, 0x50, 2, []byte{0x80, 16, 0x80, 16}),
			answer: start(replyKey, 0x50, 2, []byte{0x80, 16, 0x80, 16, 'o', 'k'}), ird: 16, ord: 16, checksCRC: true},
		"rtr by read": {sent: start(requestKey, 0x50, 2, []byte{0x80, 16, 0x40, 16}),
			answer: start(replyKey, 0x50, 2, []byte{0x80, 16, 0x40, 16, 'o', 'k'}), ird: 16, ord: 16, checksCRC: true},
		"rtr by read with an ird of none": {sent: start(requestKey, 0x50, 2, []byte{0x80, 16, 0x40, 16}), opts: &transport.Options{IRD: -1},
			answer: start(replyKey, 0x50, 2, []byte{0x80, 1, 0x40, 16, 'o', 'k'}), ird: 1, ord: 16, checksCRC: true},
		"rtr by either": {sent: start(requestKey, 0x50, 2, []byte{0x80, 16, 0xc0, 16}),
			answer: start(replyKey, 0x50, 2, []byte{0x80, 16, 0x80, 16, 'o', 'k'}), ird: 16, ord: 16, checksCRC: true},
		"rtr without a form": {sent: start(requestKey, 0x50, 2, []byte{0x80, 16, 0, 16}),
			answer: start(replyKey, 0x50, 2, []byte{0x80, 16, 0x80, 16, 'o', 'k'}), ird: 16, ord: 16, checksCRC: true},
		"rtr by send": {sent: start(requestKey, 0x50, 2, []byte{0xc0, 16, 0, 16}),
			answer: start(replyKey, 0x50, 2, []byte{0x80, 16, 0x80, 16, 'o', 'k'}), ird: 16, ord: 16, checksCRC: true},
	} {
		t.Run(name, func(t *testing.T) {
			p, req, err := serve(t, nil, tc.opts, tc.sent)
			require.NoError(t, err)
			require.True(t, bytes.Equal(tc.private, req.PrivateData()))
			q := req.QueuePair()
			require.Equal(t, transport.StateIdle, q.State())
			require.NoError(t, req.Accept(testContext(t), []byte("ok")))
			got := make([]byte, len(tc.answer))
			_, err = io.ReadFull(p.c, got)
			require.NoError(t, err)
			require.Equal(t, tc.answer, got)
			require.Equal(t, transport.StateRTS, q.State())
			a := q.Attributes()
			require.Equal(t, [2]int{tc.ird, tc.ord}, [2]int{a.IRD, a.ORD})
			require.Equal(t, tc.checksCRC, a.CRC)
			require.Equal(t, "soft", a.Device)

			if tc.tooMuchToSay > 0 {
				p, req, err := serve(t, nil, tc.opts, tc.sent)
				require.NoError(t, err)
				require.Error(t, req.Accept(testContext(t), make([]byte, tc.tooMuchToSay)))
				require.ErrorIs(t, req.QueuePair().Err(), transport.ErrClosed)
				p.ended()
			}
		})
	}
}

func TestRequestsRefused(t *testing.T) {
	good := start(requestKey, 0x50, 2, []byte{0x80, 16, 0x80, 16})
	for name, tc := range map[string]struct {
		cfg    *soft.Config
		sent   []byte
		end    bool   // the peer ends the stream after it
		answer []byte // before the end of the stream; nil for none
		want   error
		reset  bool
	}{
		"markers":                     {sent: start(requestKey, 0xc0, 1, nil), answer: start(replyKey, 0x60, 1, nil)},
		"markers, revision 2":         {sent: start(requestKey, 0xd0, 2, []byte{0, 1, 0, 1}), answer: start(replyKey, 0x70, 2, []byte{0, 0, 0, 0})},
		"revision 0":                  {sent: start(requestKey, 0x40, 0, nil), answer: start(replyKey, 0x20, 1, nil), want: transport.ErrNotIWARP},
		"revision 3":                  {sent: start(requestKey, 0x40, 3, nil), answer: start(replyKey, 0x20, 1, nil), want: transport.ErrNotIWARP},
		"revision 2 for revision 1":   {cfg: &soft.Config{Revision: 1}, sent: good, answer: start(replyKey, 0x70, 2, []byte{0, 0, 0, 0}), want: transport.ErrNotIWARP},
		"words announced, none there": {sent: start(requestKey, 0x50, 2, nil), answer: start(replyKey, 0x20, 1, nil), want: transport.ErrNotIWARP},
		"words cut":                   {sent: start(requestKey, 0x50, 2, []byte{1, 2, 3}), answer: start(replyKey, 0x20, 1, nil), want: transport.ErrNotIWARP},
		"513 bytes":                   {sent: start(requestKey, 0x40, 1, make([]byte, 513)), want: transport.ErrNotIWARP, reset: true},
		"65535 bytes announced":       {sent: start(requestKey, 0x40, 1, make([]byte, 65535))[:20], want: transport.ErrNotIWARP},
		"key of a reply":              {sent: start(replyKey, 0x40, 1, nil), want: transport.ErrNotIWARP, reset: true},
		"first byte":                  {sent: []byte("X"), want: transport.ErrNotIWARP},
		"last byte of the key":        {sent: []byte("MPA ID Req Framf"), want: transport.ErrNotIWARP},
		"http":                        {sent: []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), want: transport.ErrNotIWARP, reset: true},
		"tls":                         {sent: []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, want: transport.ErrNotIWARP},
		"bytes behind":                {sent: append(good, 0), want: transport.ErrNotIWARP, reset: true},
		"an fpdu behind":              {sent: append(good, rtrWrite()...), want: transport.ErrNotIWARP, reset: true},
		"nothing":                     {end: true, want: transport.ErrNotIWARP},
		"half a key":                  {sent: good[:9], end: true, want: io.ErrUnexpectedEOF},
		"half the words":              {sent: good[:22], end: true, want: io.ErrUnexpectedEOF},
		"nothing, silence":            {cfg: &soft.Config{RequestTimeout: 20 * time.Millisecond}, want: transport.ErrHandshakeTimeout},
		"half a key, silence":         {cfg: &soft.Config{RequestTimeout: 20 * time.Millisecond}, sent: good[:9], want: syscall.ETIMEDOUT},
		"half the words, silence":     {cfg: &soft.Config{RequestTimeout: 20 * time.Millisecond}, sent: good[:22], want: transport.ErrHandshakeTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.HasSuffix(name, "behind") {
				t.Skip("no way to look at what has come without taking it")
			}
			a, b := tcpPair(t)
			p := rawConn(t, a)
			p.write(tc.sent)
			if tc.end {
				require.NoError(t, p.c.CloseWrite())
			}
			req, err := soft.New(tc.cfg).Server(testContext(t), b, nil)
			require.Error(t, err)
			require.Nil(t, req)
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
			}
			got, err := io.ReadAll(p.c)
			require.Equal(t, string(tc.answer), string(got))
			if !tc.reset {
				require.NoError(t, err)
			}
		})
	}
}

func TestReject(t *testing.T) {
	for name, tc := range map[string]struct{ sent, answer []byte }{
		"revision 1":               {start(requestKey, 0, 1, nil), start(replyKey, 0x20, 1, []byte("no"))},
		"revision 2":               {start(requestKey, 0x50, 2, []byte{0x80, 1, 0xc0, 1}), start(replyKey, 0x70, 2, []byte{0, 0, 0, 0, 'n', 'o'})},
		"revision 2 without words": {start(requestKey, 0x40, 2, nil), start(replyKey, 0x60, 2, []byte("no"))},
	} {
		t.Run(name, func(t *testing.T) {
			p, req, err := serve(t, nil, nil, tc.sent)
			require.NoError(t, err)
			require.NoError(t, req.Reject([]byte("no")))
			got, err := io.ReadAll(p.c)
			require.NoError(t, err)
			require.Equal(t, tc.answer, got)
			require.ErrorIs(t, req.QueuePair().Err(), transport.ErrClosed)
			require.ErrorIs(t, req.QueuePair().Wait(soon()), transport.ErrClosed)
		})
	}
	_, req, err := serve(t, nil, nil, start(requestKey, 0, 1, nil))
	require.NoError(t, err)
	require.Error(t, req.Reject(make([]byte, 513)))
	require.ErrorIs(t, req.QueuePair().Err(), transport.ErrClosed)
}

func TestServerCancelled(t *testing.T) {
	_, b := tcpPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := soft.New(nil).Server(ctx, b, nil)
		done <- err
	}()
	cancel()
	require.Equal(t, context.Canceled, <-done)

	_, b = tcpPair(t)
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := soft.New(nil).Server(ctx, b, nil)
	require.Equal(t, context.DeadlineExceeded, err)
}

// An initiator that is not ready for FPDUs when the reply comes drops the connection if one is
// glued to it.
func TestTheResponderWaitsForTheFirstFPDU(t *testing.T) {
	for name, first := range map[string][]byte{
		"write of nothing": rtrWrite(),
		"read of nothing":  readRequest(1, rdmap.ReadRequest{SinkSTag: 77, SrcSTag: 78}),
		"send":             send(1, []byte("hey")),
	} {
		t.Run(name, func(t *testing.T) {
			// Even an initiator of revision 1, and an IRD of none, may open with an empty read.
			q, p, _ := role{opts: &transport.Options{IRD: -1}, frame: mpa.Frame{Revision: mpa.Rev1, Flags: mpa.FlagCRC},
				prepare: func(q transport.QueuePair) { receives(t, q, 1, 4) }}.responder(t)
			for i := range 3 {
				data := []byte{byte(i)}
				post(t, q, transport.SendWR{ID: uint64(i), Opcode: transport.OpSend, Flags: transport.Inline | transport.Signaled, Data: data})
				data[0] = 0xff // inline data is the caller's again
			}
			require.Equal(t, os.ErrDeadlineExceeded, q.Drain(time.Now().Add(10*time.Millisecond)))
			p.silent(10 * time.Millisecond)
			// Half of an FPDU opens nothing, nor does nobody's waiting keep it closed.
			p.write(first[:7])
			p.silent(10 * time.Millisecond)
			p.write(first[7:])
			var got [][]byte
			for len(got) < 3 {
				s := p.next()
				if s.Op == rdmap.OpReadResponse {
					require.EqualValues(t, 77, s.T.STag)
					require.Empty(t, s.Payload)
					continue
				}
				got = append(got, s.Payload)
			}
			require.Equal(t, [][]byte{{0}, {1}, {2}}, got)
			require.NoError(t, q.Drain(soon()))
		})
	}
}

// What is posted before the gate opens reaches the peer though the queue pair is closed at once.
func TestCloseBeforeTheGateOpens(t *testing.T) {
	q, p, _ := role{}.responder(t)
	data := random(100000)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: data})
	require.NoError(t, q.Close())
	clear(data)
	q.Interrupt() // does not end what Close has begun
	p.silent(10 * time.Millisecond)
	p.write(rtrWrite())
	got := p.sends()
	require.Len(t, got, 1)
	require.Equal(t, random(100000), got[0])
}

func TestGateThatNeverOpens(t *testing.T) {
	q, p, _ := role{cfg: &soft.Config{RequestTimeout: 300 * time.Millisecond}}.responder(t)
	post(t, q, transport.SendWR{ID: 3, Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: []byte("x")})
	require.NoError(t, q.Close())
	p.ended()
	require.NoError(t, p.c.Close())
	var wc [1]transport.Completion
	require.Eventually(t, func() bool { return q.Poll(wc[:]) == 1 }, limit, time.Millisecond)
	require.Equal(t, transport.Completion{ID: 3, Opcode: transport.OpSend, Status: transport.StatusFlushed}, wc[0])
}
