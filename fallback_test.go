package iwarp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

const mpaKey = "MPA ID Req Frame"

// legacyServer echoes to plain TCP clients and does to MPA requests what a test wants.
type legacyServer struct {
	net.Listener
	requests atomic.Int32 // MPA requests seen
}

// newLegacyServer calls answer with each connection that begins with an MPA request, with nothing
// consumed but the first 20 bytes, which it also gets.
func newLegacyServer(t testing.TB, answer func(c *net.TCPConn, header []byte)) *legacyServer {
	t.Helper()
	iwarp.ForgetPeers()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &legacyServer{Listener: l}
	t.Cleanup(func() {
		_ = l.Close()
		iwarp.ForgetPeers() // the port may be somebody else's next
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c.(*net.TCPConn), answer)
		}
	}()
	return s
}

func (s *legacyServer) serve(c *net.TCPConn, answer func(*net.TCPConn, []byte)) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 20)
	if first, err := r.Peek(1); err != nil || first[0] != mpaKey[0] {
		_, _ = io.Copy(c, r)
		return
	}
	header := make([]byte, 20)
	if _, err := io.ReadFull(r, header); err != nil {
		return
	}
	s.requests.Add(1)
	answer(c, header)
}

// asked checks that n MPA requests were sent. One that a dial has given up may be read late.
func (s *legacyServer) asked(t testing.TB, n int) {
	t.Helper()
	eventually(t, func() bool { return int(s.requests.Load()) >= n }, "the MPA requests are read")
	require.EqualValues(t, n, s.requests.Load(), "MPA requests sent")
}

func resetConn(c *net.TCPConn, _ []byte) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// untilGone waits until the client hangs up.
func untilGone(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

var legacyAnswers = []struct {
	name     string
	answer   func(*net.TCPConn, []byte)
	reason   iwarp.Reason
	is       error
	requests int // attempts that one dial makes
	known    bool
}{
	{name: "garbage", reason: iwarp.ReasonNotIWARP, is: transport.ErrNotIWARP, requests: 1, known: true, answer: func(c *net.TCPConn, _ []byte) {
		_, _ = io.WriteString(c, "500 unrecognized command\r\n")
		untilGone(c)
	}},
	{name: "http", reason: iwarp.ReasonNotIWARP, is: transport.ErrNotIWARP, requests: 1, known: true, answer: func(c *net.TCPConn, _ []byte) {
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")
		_ = c.CloseWrite()
		untilGone(c)
	}},
	{name: "short", reason: iwarp.ReasonNotIWARP, requests: 1, known: true, answer: func(c *net.TCPConn, _ []byte) {
		_, _ = io.WriteString(c, "?")
		_ = c.CloseWrite()
		untilGone(c)
	}},
	{name: "closes", reason: iwarp.ReasonNotIWARP, requests: 1, known: true, answer: func(c *net.TCPConn, _ []byte) {
		_ = c.CloseWrite()
		untilGone(c)
	}},
	{name: "resets", reason: iwarp.ReasonNotIWARP, is: syscall.ECONNRESET, requests: 2, known: true, answer: resetConn},
	{name: "silent", reason: iwarp.ReasonHandshakeTimeout, is: transport.ErrHandshakeTimeout, requests: 1, known: true, answer: func(c *net.TCPConn, _ []byte) {
		untilGone(c)
	}},
	{name: "half a reply", reason: iwarp.ReasonHandshakeTimeout, is: transport.ErrHandshakeTimeout, requests: 1, known: true, answer: func(c *net.TCPConn, _ []byte) {
		_, _ = io.WriteString(c, "MPA ID Rep Fr")
		untilGone(c)
	}},
	{name: "declines", reason: iwarp.ReasonDeclined, is: syscall.ECONNREFUSED, requests: 1, answer: func(c *net.TCPConn, header []byte) {
		// R, and S with the enhanced words that it stands for (RFC 6581 §6)
		_, _ = c.Write(append([]byte("MPA ID Rep Frame"), header[16]&0x50|0x20, header[17], 0, 4, 0, 0, 0, 0))
		_ = c.CloseWrite()
		untilGone(c)
	}},
}

// handshakeTimeout is the time that a peer has for an answer: one that gives it is not held to how
// busy the machine is.
func handshakeTimeout(of iwarp.Reason) time.Duration {
	if of == iwarp.ReasonHandshakeTimeout {
		return 200 * time.Millisecond
	}
	return patience
}

// TestPrefer falls back to plain TCP on a new connection, and says why.
func TestPrefer(t *testing.T) {
	for _, tt := range legacyAnswers {
		t.Run(tt.name, func(t *testing.T) {
			s := newLegacyServer(t, tt.answer)
			d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, HandshakeTimeout: handshakeTimeout(tt.reason)}
			for _, want := range []int{tt.requests, map[bool]int{true: tt.requests, false: 2 * tt.requests}[tt.known]} {
				c, err := d.Dial("tcp", s.Addr().String())
				require.NoError(t, err)
				defer c.Close()
				require.IsType(t, (*net.TCPConn)(nil), c)
				exchangeWithEcho(t, c, "hello")
				info := describe(t, c)
				require.Equal(t, "tcp", info.Transport)
				require.Equal(t, tt.reason, info.Reason)
				require.Error(t, info.Err)
				if tt.is != nil {
					require.ErrorIs(t, info.Err, tt.is)
				}
				s.asked(t, want)
			}
		})
	}
}

// TestRequire fails where Prefer falls back.
func TestRequire(t *testing.T) {
	for _, tt := range legacyAnswers {
		t.Run(tt.name, func(t *testing.T) {
			s := newLegacyServer(t, tt.answer)
			local := &net.TCPAddr{IP: net.IP{127, 0, 0, 1}}
			d := iwarp.Dialer{Offload: iwarp.OffloadRequire, HandshakeTimeout: handshakeTimeout(tt.reason), LocalAddr: local}
			c, err := d.Dial("tcp", s.Addr().String())
			require.Nil(t, c)
			op := opError(t, err)
			require.Equal(t, "dial", op.Op)
			require.Equal(t, "tcp", op.Net)
			require.Equal(t, net.Addr(local), op.Source)
			require.Equal(t, s.Addr().String(), op.Addr.String())
			var why *iwarp.OffloadError
			require.ErrorAs(t, err, &why)
			require.Equal(t, tt.reason, why.Reason)
			require.Contains(t, err.Error(), "offload required: "+tt.reason.String())
			require.Equal(t, tt.reason == iwarp.ReasonHandshakeTimeout, op.Timeout())
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			s.asked(t, tt.requests)
		})
	}
}

// TestAutoSendsNoMPA dials plain TCP where nobody asked for iWARP in software.
func TestAutoSendsNoMPA(t *testing.T) {
	s := newLegacyServer(t, untilGoneAnswer)
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadNever} {
		c := dial(t, s, policy)
		require.IsType(t, (*net.TCPConn)(nil), c)
		exchangeWithEcho(t, c, "hello")
		want := map[iwarp.Offload]iwarp.Reason{iwarp.OffloadAuto: iwarp.ReasonNoDevice, iwarp.OffloadNever: iwarp.ReasonPolicy}[policy]
		require.Equal(t, iwarp.Info{Transport: "tcp", Reason: want}, describe(t, c))
	}
	require.Zero(t, s.requests.Load())
}

func untilGoneAnswer(c *net.TCPConn, _ []byte) { untilGone(c) }

// TestPreferLeavesTimeForFallback reaches a mute peer although the time limit is shorter than the
// handshake's.
func TestPreferLeavesTimeForFallback(t *testing.T) {
	s := newLegacyServer(t, untilGoneAnswer)
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, Timeout: time.Second, HandshakeTimeout: time.Hour}
	c := dialInHaste(t, &d, s)
	exchangeWithEcho(t, c, "hello")
	require.Equal(t, iwarp.ReasonHandshakeTimeout, describe(t, c).Reason)
}

// dialInHaste dials once more where the machine was too busy for the plain connection, which has as
// little time as the request.
func dialInHaste(t *testing.T, d *iwarp.Dialer, s *legacyServer) net.Conn {
	t.Helper()
	for try := 1; ; try++ {
		iwarp.ForgetPeers()
		c, err := d.Dial("tcp", s.Addr().String())
		if late, ok := err.(net.Error); ok && late.Timeout() && try < 5 {
			continue
		}
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

// TestDialsInHaste asks a silent peer once, although the dial leaves less time than there is
// otherwise, and again if there was too little for any answer.
func TestDialsInHaste(t *testing.T) {
	for name, tt := range map[string]struct {
		d    iwarp.Dialer
		want iwarp.Reason // of a dial with more time, to the peer that now answers
	}{
		"enough":     {iwarp.Dialer{Timeout: time.Second}, iwarp.ReasonHandshakeTimeout},
		"too little": {iwarp.Dialer{HandshakeTimeout: 5 * time.Millisecond}, iwarp.ReasonNotIWARP},
	} {
		t.Run(name, func(t *testing.T) {
			var answers atomic.Bool
			s := newLegacyServer(t, func(c *net.TCPConn, _ []byte) {
				if answers.Load() {
					_, _ = io.WriteString(c, "500 unrecognized command\r\n")
				}
				untilGone(c)
			})
			tt.d.Offload = iwarp.OffloadPrefer
			require.Equal(t, iwarp.ReasonHandshakeTimeout, describe(t, dialInHaste(t, &tt.d, s)).Reason)
			answers.Store(true)
			require.Equal(t, tt.want, describe(t, dial(t, s, iwarp.OffloadPrefer)).Reason)
		})
	}
}

// TestHangsUpBesideAnother fails at once where the peer hangs up, whatever others are asked
// meanwhile.
func TestHangsUpBesideAnother(t *testing.T) {
	asked := make(chan struct{}, 1)
	silent := newLegacyServer(t, func(c *net.TCPConn, _ []byte) {
		asked <- struct{}{}
		untilGone(c)
	})
	s := newLegacyServer(t, resetConn)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := (&iwarp.Dialer{Offload: iwarp.OffloadRequire}).DialContext(ctx, "tcp", silent.Addr().String())
		failed <- err
	}()
	<-asked
	began := time.Now()
	_, err := (&iwarp.Dialer{Offload: iwarp.OffloadRequire}).Dial("tcp", s.Addr().String())
	took := time.Since(began)
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Less(t, took, 3*time.Second, "as if the other might find out that this one speaks iWARP")
}

// TestNegativeHandshakeTimeout takes it for the default.
func TestNegativeHandshakeTimeout(t *testing.T) {
	iwarp.ForgetPeers()
	l := listen(t, iwarp.ListenConfig{HandshakeTimeout: -1})
	acceptEach(t, l)
	for _, policy := range []iwarp.Offload{iwarp.OffloadPrefer, iwarp.OffloadRequire} {
		d := iwarp.Dialer{Offload: policy, HandshakeTimeout: -1}
		c, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		require.Equal(t, "soft", describe(t, c).Transport)
	}
}

// TestFallbackFromSamePort falls back between the same two ports, which a TIME_WAIT would not
// allow.
func TestFallbackFromSamePort(t *testing.T) {
	for _, tt := range legacyAnswers {
		t.Run(tt.name, func(t *testing.T) {
			s := newLegacyServer(t, tt.answer)
			r := reserve(t, nil, "tcp", "127.0.0.1:0")
			require.NoError(t, r.Release())
			d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, HandshakeTimeout: handshakeTimeout(tt.reason), LocalAddr: r.Addr()}
			c, err := d.Dial("tcp", s.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			require.Equal(t, r.Addr().String(), c.LocalAddr().String())
			exchangeWithEcho(t, c, "hello")
		})
	}
}

// TestRefusedFallback is the error of the second connection, if only the first one was accepted.
func TestRefusedFallback(t *testing.T) {
	iwarp.ForgetPeers()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		c, err := l.Accept()
		_ = l.Close()
		if err == nil {
			_, _ = io.WriteString(c, "no room for MPA here")
			untilGone(c.(*net.TCPConn))
			_ = c.Close()
		}
	}()
	_, err = (&iwarp.Dialer{Offload: iwarp.OffloadPrefer}).Dial("tcp", l.Addr().String())
	op := opError(t, err)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Equal(t, l.Addr().String(), op.Addr.String())
	var why *iwarp.OffloadError
	require.False(t, errors.As(err, &why))
}

// TestRestartedServer asks a server again soon that has ended while it was asked.
func TestRestartedServer(t *testing.T) {
	iwarp.ForgetPeers()
	defer iwarp.SetPassingTTL(1)()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		if c, err := l.Accept(); noError(t, err) {
			_, err := c.Read(make([]byte, 1))
			noError(t, err)
			resetConn(c.(*net.TCPConn), nil)
		}
	}()
	connects := 0
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer}
	d.Control = func(string, string, syscall.RawConn) error {
		if connects++; connects == 2 {
			return l.Close()
		}
		return nil
	}
	_, err = d.Dial("tcp", l.Addr().String())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	s, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	defer s.Close()
	go echo(s)
	require.Eventually(t, func() bool {
		c, err := d.Dial("tcp", s.Addr().String())
		if !noError(t, err) {
			return false
		}
		defer c.Close()
		info, _ := iwarp.Describe(c)
		return info.Transport == "soft"
	}, patience, 10*time.Millisecond)
}

// TestNoTransports leaves nothing but plain TCP.
func TestNoTransports(t *testing.T) {
	none := []transport.Transport{}
	l := listen(t, iwarp.ListenConfig{Transports: none})
	go echo(l)
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, Transports: none}
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	exchangeWithEcho(t, c, mpaKey)
	require.Equal(t, iwarp.ReasonNoDevice, describe(t, c).Reason)

	var why *iwarp.OffloadError
	d.Offload = iwarp.OffloadRequire
	_, err = d.Dial("tcp", l.Addr().String())
	require.ErrorAs(t, err, &why)
	require.Equal(t, iwarp.ReasonNoDevice, why.Reason)
	_, err = (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire, Transports: none}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.ErrorAs(t, err, &why)
	require.Equal(t, "listen", opError(t, err).Op)
}
