package soft_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// ask connects to a raw responder whose answer is there already.
func ask(t testing.TB, cfg *soft.Config, o *transport.Options, answer []byte) (*rawPeer, transport.QueuePair, []byte, error) {
	t.Helper()
	a, b := tcpPair(t)
	p := rawConn(t, b)
	p.write(answer)
	c, err := soft.New(cfg).Client(a, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Close()
		c.QueuePair().Close()
	})
	private, err := c.Connect(testContext(t), []byte("hello"))
	return p, c.QueuePair(), private, err
}

func TestOwnRequest(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  *soft.Config
		opts *transport.Options
		want []byte
	}{
		"default":    {want: start(requestKey, 0x50, 2, append([]byte{0x80, 16, 0xc0, 16}, "hello"...))},
		"revision 1": {cfg: &soft.Config{Revision: 1}, want: start(requestKey, 0x40, 1, []byte("hello"))},
		"no crc":     {cfg: &soft.Config{NoCRC: true}, want: start(requestKey, 0x10, 2, append([]byte{0x80, 16, 0xc0, 16}, "hello"...))},
		"depths": {opts: &transport.Options{NoCRC: true, IRD: 3, ORD: 20000},
			want: start(requestKey, 0x10, 2, append([]byte{0x80, 3, 0xff, 0xfe}, "hello"...))},
		"none": {opts: &transport.Options{IRD: -1, ORD: -1}, want: start(requestKey, 0x50, 2, append([]byte{0x80, 1, 0xc0, 1}, "hello"...))},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, _, err := ask(t, tc.cfg, tc.opts, start(replyKey, 0x40, 1, nil))
			require.NoError(t, err)
			got := make([]byte, len(tc.want))
			_, err = io.ReadFull(p.c, got)
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
	a, b := tcpPair(t)
	p := rawConn(t, b)
	c, err := soft.New(nil).Client(a, nil)
	require.NoError(t, err)
	_, err = c.Connect(testContext(t), make([]byte, 509))
	require.ErrorContains(t, err, "private data")
	require.NoError(t, p.c.CloseWrite())
	p.ended()
}

func TestReplies(t *testing.T) {
	crc := &transport.Options{NoCRC: true}
	for name, tc := range map[string]struct {
		answer   []byte
		opts     *transport.Options
		private  string
		ird, ord int
		noCRC    bool
		rtr      rdmap.Opcode // 3 for none
	}{
		"revision 1":               {answer: start(replyKey, 0x40, 1, []byte("ok")), private: "ok", ird: 16, ord: 16, rtr: 3},
		"revision 1, no crc":       {answer: start(replyKey, 0, 1, nil), opts: crc, ird: 16, ord: 16, rtr: 3, noCRC: true},
		"crc for the responder":    {answer: start(replyKey, 0x40, 1, nil), opts: crc, ird: 16, ord: 16, rtr: 3},
		"revision 2 without words": {answer: start(replyKey, 0x40, 2, []byte("ok")), private: "ok", ird: 16, ord: 16, rtr: 3},
		"revision 2, no rtr":       {answer: start(replyKey, 0x50, 2, []byte{0, 8, 0xc0, 4, 'o', 'k'}), private: "ok", ird: 16, ord: 8, rtr: 3},
		"rtr by write":             {answer: start(replyKey, 0x50, 2, []byte{0x80, 16, 0x80, 16}), ird: 16, ord: 16, rtr: rdmap.OpWrite},
		"rtr by read":              {answer: start(replyKey, 0x50, 2, []byte{0x80, 16, 0x40, 16}), ird: 16, ord: 16, rtr: rdmap.OpReadRequest},
		"rtr by either":            {answer: start(replyKey, 0x50, 2, []byte{0x80, 16, 0xc0, 16}), ird: 16, ord: 16, rtr: rdmap.OpReadRequest},
		"rtr by all":               {answer: start(replyKey, 0x50, 2, []byte{0xc0, 16, 0xc0, 16}), ird: 16, ord: 16, rtr: rdmap.OpReadRequest},
		"512 bytes":                {answer: start(replyKey, 0x40, 1, make([]byte, 512)), private: string(make([]byte, 512)), ird: 16, ord: 16, rtr: 3},
		"serves no reads":          {answer: start(replyKey, 0x50, 2, []byte{0, 0, 0, 0}), ird: 16, ord: 0, rtr: 3},
		"wants more reads":         {answer: start(replyKey, 0x50, 2, []byte{0, 200, 0, 128}), ird: 128, ord: 16, rtr: 3},
		"wants reads of none":      {answer: start(replyKey, 0x50, 2, []byte{0, 16, 0, 16}), opts: &transport.Options{IRD: -1}, ird: 0, ord: 16, rtr: 3},
		"does not negotiate":       {answer: start(replyKey, 0x50, 2, []byte{0x3f, 0xff, 0x3f, 0xff}), ird: 16, ord: 16, rtr: 3},
	} {
		t.Run(name, func(t *testing.T) {
			p, q, private, err := ask(t, nil, tc.opts, tc.answer)
			require.NoError(t, err)
			require.Equal(t, tc.private, string(private))
			a := q.Attributes()
			require.Equal(t, [2]int{tc.ird, tc.ord}, [2]int{a.IRD, a.ORD})
			require.Equal(t, tc.noCRC, !a.CRC)
			post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline})
			p.frame(false)
			if tc.noCRC {
				return
			}
			s := p.next()
			require.Equal(t, tc.rtr, s.Op)
			if s.Op == rdmap.OpReadRequest {
				require.EqualValues(t, 1, s.U.MSN)
				r, err := rdmap.ParseReadRequest(s.Payload)
				require.NoError(t, err)
				require.Zero(t, r.Size)
				p.write(tagged(rdmap.OpReadResponse, true, transport.STag(r.SinkSTag), r.SinkTO, nil))
			}
			for s.Op == rdmap.OpWrite {
				require.Empty(t, s.Payload)
				s = p.next()
			}
			require.NoError(t, q.Drain(soon()))
			if s.Op != rdmap.OpSend {
				require.Equal(t, rdmap.OpSend, p.next().Op)
			}
		})
	}
}

func TestRepliesRefused(t *testing.T) {
	short := &soft.Config{ReplyTimeout: 20 * time.Millisecond}
	for name, tc := range map[string]struct {
		cfg    *soft.Config
		answer []byte
		end    bool
		want   error
		text   string
		tells  []byte // layer and type, and code of the Terminate
	}{
		"no rtr in common":       {answer: start(replyKey, 0x50, 2, []byte{0xc0, 16, 0, 16}), text: "ready-to-receive", tells: []byte{0x20, 7}},
		"more reads than can be": {answer: start(replyKey, 0x50, 2, []byte{0, 16, 0, 129}), text: "lower its ord", tells: []byte{0x20, 6}},
		"markers":                {answer: start(replyKey, 0xc0, 1, nil), text: "markers", tells: []byte{0x20, 4}},
		"key of a request":       {answer: start(requestKey, 0x40, 1, nil), want: transport.ErrNotIWARP},
		"http":                   {answer: []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), want: transport.ErrNotIWARP},
		"revision 0":             {answer: start(replyKey, 0x40, 0, nil), want: transport.ErrNotIWARP},
		"revision 3":             {answer: start(replyKey, 0x40, 3, nil), want: transport.ErrNotIWARP},
		"words cut":              {answer: start(replyKey, 0x50, 2, []byte{1, 2, 3}), want: transport.ErrNotIWARP},
		"513 bytes":              {answer: start(replyKey, 0x40, 1, make([]byte, 513)), want: transport.ErrNotIWARP},
		"end":                    {end: true, want: transport.ErrNotIWARP},
		"end within":             {answer: start(replyKey, 0x40, 1, nil)[:19], end: true, want: io.ErrUnexpectedEOF},
		"silence":                {cfg: short, want: transport.ErrHandshakeTimeout},
		"silence within":         {cfg: short, answer: start(replyKey, 0x40, 1, []byte("12"))[:21], want: syscall.ETIMEDOUT},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := tcpPair(t)
			p := rawConn(t, b)
			p.write(tc.answer)
			if tc.end {
				require.NoError(t, p.c.CloseWrite())
			}
			c, err := soft.New(tc.cfg).Client(a, nil)
			require.NoError(t, err)
			_, err = c.Connect(testContext(t), nil)
			require.ErrorContains(t, err, tc.text)
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
			}
			require.ErrorIs(t, c.QueuePair().Err(), net.ErrClosed)
			require.ErrorIs(t, c.Close(), net.ErrClosed)
			p.frame(false)
			if tc.tells != nil {
				s := p.next()
				require.Equal(t, rdmap.OpTerminate, s.Op)
				require.Equal(t, tc.tells, s.Payload[:2])
			}
		})
	}
}

// TestForeignGreetings finds a peer out that says less than an MPA header, and waits.
func TestForeignGreetings(t *testing.T) {
	for _, greeting := range []string{"+OK\r\n", "220 mx ESMTP\r\n", "ERROR\r\n", "M", "MPA ID Rep Fram?", "\x15\x03\x01"} {
		t.Run(greeting, func(t *testing.T) {
			a, b := tcpPair(t)
			p := rawConn(t, b)
			c, err := soft.New(&soft.Config{ReplyTimeout: time.Hour}).Client(a, nil)
			require.NoError(t, err)
			p.write([]byte(greeting))
			if greeting == "M" { // it may still be one
				require.NoError(t, p.c.CloseWrite())
			}
			_, err = c.Connect(testContext(t), nil)
			require.ErrorIs(t, err, transport.ErrNotIWARP)
			require.Equal(t, greeting == "M", errors.Is(err, io.ErrUnexpectedEOF))
		})
	}
}

func TestRejected(t *testing.T) {
	for name, answer := range map[string][]byte{
		"revision 1":               start(replyKey, 0x20, 1, []byte("no")),
		"revision 2":               start(replyKey, 0x70, 2, []byte{0x80, 16, 0, 0, 'n', 'o'}),
		"revision 2 without words": start(replyKey, 0x60, 2, []byte("no")),
		"with markers":             start(replyKey, 0xe0, 1, []byte("no")),
	} {
		t.Run(name, func(t *testing.T) {
			_, q, _, err := ask(t, nil, nil, answer)
			var rejected *transport.RejectedError
			require.ErrorAs(t, err, &rejected)
			require.Equal(t, "no", string(rejected.PrivateData))
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			require.ErrorIs(t, q.Wait(soon()), net.ErrClosed)
		})
	}
}

func TestConnectCancelled(t *testing.T) {
	a, _ := tcpPair(t)
	c, err := soft.New(nil).Client(a, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(5*time.Millisecond, cancel)
	_, err = c.Connect(ctx, nil)
	require.Equal(t, context.Canceled, err)

	a, _ = tcpPair(t)
	c, err = soft.New(nil).Client(a, nil)
	require.NoError(t, err)
	ctx, cancel = context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	_, err = c.Connect(ctx, nil)
	require.Equal(t, context.DeadlineExceeded, err)

	// Another goroutine gives up.
	a, _ = tcpPair(t)
	c, err = soft.New(nil).Client(a, nil)
	require.NoError(t, err)
	time.AfterFunc(5*time.Millisecond, func() { c.Close() })
	_, err = c.Connect(testContext(t), nil)
	require.ErrorIs(t, err, net.ErrClosed)
}

// resetting returns the address of a peer that resets its first connection when it has read a
// request, and hands on the second.
func resetting(t *testing.T) (netip.AddrPort, <-chan *net.TCPConn) {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	second := make(chan *net.TCPConn, 1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer close(second)
		c, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		io.ReadFull(c, make([]byte, mpa.FrameHeaderLen+mpa.EnhancedLen))
		c.SetLinger(0)
		c.Close()
		if c, err = ln.AcceptTCP(); err == nil {
			second <- c
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-over
	})
	return ln.Addr().(*net.TCPAddr).AddrPort(), second
}

func TestRevision1ForAPeerThatResets(t *testing.T) {
	addr, second := resetting(t)
	// A port of one's own has to be free again for the second connection.
	own, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	local := own.Addr().(*net.TCPAddr).AddrPort()
	require.NoError(t, own.Close())
	c, err := soft.New(nil).Dial(testContext(t), local, addr, nil)
	require.NoError(t, err)
	q := c.QueuePair()
	defer q.Close()
	go func() {
		p := &rawPeer{t: t, c: <-second}
		defer p.c.Close()
		p.write(concat(start(replyKey, 0x40, 1, []byte("old")), send(1, []byte("news"))))
		b, _ := io.ReadAll(io.LimitReader(p.c, 25))
		p.write(send(2, b[:4]))
		p.write(send(3, b[16:18]))
		io.Copy(io.Discard, p.c)
	}()
	mem := receives(t, q, 3, 4)
	private, err := c.Connect(testContext(t), []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "old", string(private))
	require.Equal(t, local, q.LocalAddr())
	for range 3 {
		require.Equal(t, transport.StatusSuccess, next(t, q).Status)
	}
	require.Equal(t, "newsMPA \x40\x01", string(mem[:10]))
	require.NoError(t, c.Close(), "does nothing after success")
	require.Equal(t, transport.StateRTS, q.State())
}

func TestNoRevision1(t *testing.T) {
	t.Run("peer resets revision 1", func(t *testing.T) {
		addr, _ := resetting(t)
		c, err := soft.New(&soft.Config{Revision: 1}).Dial(testContext(t), netip.AddrPort{}, addr, nil)
		require.NoError(t, err)
		_, err = c.Connect(testContext(t), make([]byte, 4))
		require.ErrorIs(t, err, transport.ErrNotIWARP)
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
	t.Run("no second connection", func(t *testing.T) {
		addr, _ := resetting(t)
		raw, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(addr))
		require.NoError(t, err)
		c, err := soft.New(nil).Client(raw, nil)
		require.NoError(t, err)
		c.(interface {
			SetRedial(func(context.Context) (*net.TCPConn, error))
		}).SetRedial(func(context.Context) (*net.TCPConn, error) { return nil, syscall.ECONNREFUSED })
		_, err = c.Connect(testContext(t), nil)
		require.Equal(t, syscall.ECONNREFUSED, err)
	})
	t.Run("closed meanwhile", func(t *testing.T) {
		addr, _ := resetting(t)
		raw, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(addr))
		require.NoError(t, err)
		c, err := soft.New(nil).Client(raw, nil)
		require.NoError(t, err)
		a, b := tcpPair(t)
		c.(interface {
			SetRedial(func(context.Context) (*net.TCPConn, error))
		}).SetRedial(func(context.Context) (*net.TCPConn, error) {
			require.NoError(t, c.Close())
			return a, nil
		})
		_, err = c.Connect(testContext(t), nil)
		require.ErrorIs(t, err, net.ErrClosed)
		rawConn(t, b).ended()
	})
}

func TestDialRefused(t *testing.T) {
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	require.NoError(t, ln.Close())
	_, err = soft.New(nil).Dial(testContext(t), netip.AddrPort{}, addr, nil)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}
