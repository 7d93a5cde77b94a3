package iwarp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestMixedClients serves every kind of client on one port, each with all of its bytes.
func TestMixedClients(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	var server, clients sync.WaitGroup
	server.Go(func() { echo(l) })
	for i := range 40 {
		clients.Go(func() {
			policy := policies[i%len(policies)]
			d := iwarp.Dialer{Offload: policy, Timeout: patience}
			c, err := d.Dial("tcp", l.Addr().String())
			if !noError(t, err) {
				return
			}
			defer c.Close()
			text := []byte(strings.Repeat(fmt.Sprintf("%v %d ", policy, i), 1000*(i+1)))
			clients.Go(func() {
				_, err := c.Write(text)
				noError(t, err)
			})
			got := make([]byte, len(text))
			if _, err = io.ReadFull(c, got); noError(t, err) && !bytes.Equal(got, text) {
				t.Errorf("%v: the echo differs", policy)
			}
			info, _ := iwarp.Describe(c)
			if want := map[bool]string{true: "soft", false: "tcp"}[policy >= iwarp.OffloadPrefer]; info.Transport != want {
				t.Errorf("%v: %+v, want %s", policy, info, want)
			}
		})
	}
	clients.Wait()
	s := l.Stats()
	require.EqualValues(t, 20, s.IWARP)
	require.EqualValues(t, 20, s.PlainTCP)
	require.Zero(t, s.HandshakeFailed)
	require.NoError(t, l.Close())
	server.Wait()
}

func noError(t testing.TB, err error) bool {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// TestPlainClients hands over what plain TCP clients send, whatever it is, untouched and without
// delay.
func TestPlainClients(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Hour})
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"M\n", "MPA ID Rep Frame\x40\x02\x00\x00", "MPA ID Req Framf", "MPA ID Req Fram\x00", "\x00", "SSH-2.0-x\r\n", strings.Repeat("x", 100_000),
	} {
		c := dialTCP(t, l)
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		s := accept(t, l)
		require.IsType(t, (*net.TCPConn)(nil), s)
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
		require.Equal(t, iwarp.Info{Transport: "tcp", Reason: iwarp.ReasonNotIWARP}, describe(t, s))
	}
	require.Zero(t, l.Stats().Silent)
}

// TestDrippingKey hands over a client that begins like an MPA request, byte by byte, and then
// differs.
func TestDrippingKey(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Hour})
	const text = "MPA ID Req Fra!"
	next := acceptEach(t, l)
	c := dialTCP(t, l)
	require.NoError(t, c.SetNoDelay(true))
	for i := range len(text) {
		eventually(t, func() bool { return l.Stats().HalfOpen == 1 }, "the client is not made out yet")
		_, err := c.Write([]byte(text[i : i+1]))
		require.NoError(t, err)
	}
	s := next()
	got := make([]byte, len(text))
	_, err := io.ReadFull(s, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

// TestSilentClients hands over clients that wait for the server to speak first.
func TestSilentClients(t *testing.T) {
	for _, text := range []string{"", "M", "MPA ID Req Fram"} {
		const patience = 50 * time.Millisecond
		l := listen(t, iwarp.ListenConfig{FirstByteTimeout: patience, HandshakeTimeout: patience})
		c := dialTCP(t, l)
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
		s, err := l.Accept()
		require.NoError(t, err)
		defer s.Close()
		require.Equal(t, iwarp.Info{Transport: "tcp", Reason: iwarp.ReasonSilent}, describe(t, s))
		require.EqualValues(t, 1, l.Stats().Silent)

		_, err = io.WriteString(s, "220 hello\r\n")
		require.NoError(t, err)
		greeting := make([]byte, 11)
		_, err = io.ReadFull(c, greeting)
		require.NoError(t, err)
		_, err = io.WriteString(c, "QUIT")
		require.NoError(t, err)
		got := make([]byte, len(text)+4)
		_, err = io.ReadFull(s, got)
		require.NoError(t, err, "the deadline of the wait is not left behind")
		require.Equal(t, text+"QUIT", string(got))
	}
}

// TestClosedClients hands over clients that close before they are identified, as package net does.
func TestClosedClients(t *testing.T) {
	timeout := patience
	if runtime.GOOS != "linux" {
		timeout = 100 * time.Millisecond // a FIN after part of the key goes unnoticed
	}
	for _, text := range []string{"", "MPA", "bye"} {
		t.Run("fin after "+text, func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{FirstByteTimeout: timeout})
			c := dialTCP(t, l)
			_, err := io.WriteString(c, text)
			require.NoError(t, err)
			require.NoError(t, c.Close())
			got, err := io.ReadAll(accept(t, l))
			require.NoError(t, err)
			require.Equal(t, text, string(got))
		})
		t.Run("reset after "+text, func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{FirstByteTimeout: timeout})
			c := dialTCP(t, l)
			_, err := io.WriteString(c, text)
			require.NoError(t, err)
			require.NoError(t, c.SetLinger(0))
			require.NoError(t, c.Close())
			_, err = io.ReadAll(accept(t, l))
			require.ErrorIs(t, err, syscall.ECONNRESET)
		})
	}
}

// TestRequireRefusesPlain closes plain TCP clients of a listener with OffloadRequire.
func TestRequireRefusesPlain(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{Offload: iwarp.OffloadRequire, FirstByteTimeout: 50 * time.Millisecond, HandshakeTimeout: 50 * time.Millisecond})
	next := acceptEach(t, l)
	for i, text := range []string{"", "hello", "MPA ID"} {
		c := dialTCP(t, l)
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		require.Error(t, err)
		require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "%v", err)
		eventually(t, func() bool { return l.Stats().Refused == uint64(i+1) }, "it is counted")
	}
	require.Zero(t, l.Stats().PlainTCP)
	exchange(t, dialInTime(t, l), next(), "hello")
}

// dialInTime dials a listener that has little patience until it is quick enough, however busy the
// machine is.
func dialInTime(t *testing.T, l net.Listener) (c net.Conn) {
	t.Helper()
	eventually(t, func() (ok bool) {
		var err error
		c, err = (&iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: patience}).Dial("tcp", l.Addr().String())
		return err == nil
	}, "a handshake")
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestNeverDoesNotPeek takes what looks like an MPA request for what it is to a plain TCP server:
// bytes.
func TestNeverDoesNotPeek(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{Offload: iwarp.OffloadNever})
	c := dialTCP(t, l)
	s := accept(t, l) // at once, though the client is silent
	exchange(t, c, s, "MPA ID Req Frame")
	require.Equal(t, iwarp.Info{Transport: "tcp", Reason: iwarp.ReasonPolicy}, describe(t, s))
	require.Zero(t, l.Stats().HalfOpen)
}

// TestBadRequests drops clients whose MPA request is bad or incomplete. Accept does not notice.
func TestBadRequests(t *testing.T) {
	const key = "MPA ID Req Frame"
	for _, tt := range []struct {
		name, text string
		close      bool
	}{
		{name: "half a request, stalled", text: key + "\x40"},
		{name: "no private data, stalled", text: key + "\x40\x02\x00\x10abcd"},
		{name: "half a request, closed", text: key + "\x40\x02", close: true},
		{name: "key alone, closed", text: key, close: true},
		{name: "private data too long", text: key + "\x40\x02\xff\xff" + strings.Repeat("x", 1000)},
		{name: "unknown revision", text: key + "\x40\x63\x00\x00"},
		{name: "no rsocket data", text: key + "\x40\x01\x00\x00"},
		{name: "garbage data", text: key + "\x40\x01\x00\x28" + strings.Repeat("\xff", 40)},
		{name: "bytes after the request", text: key + "\x40\x01\x00\x00" + strings.Repeat("x", 100)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lc := iwarp.ListenConfig{HandshakeTimeout: patience, FirstByteTimeout: patience}
			if strings.HasSuffix(tt.name, "stalled") {
				lc.HandshakeTimeout = 200 * time.Millisecond
			}
			l := listen(t, lc)
			next := acceptEach(t, l)
			c := dialTCP(t, l)
			_, err := io.WriteString(c, tt.text)
			require.NoError(t, err)
			if tt.close {
				require.NoError(t, c.CloseWrite())
			}
			_, err = io.Copy(io.Discard, c)
			require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the client is not closed: %v", err)
			eventually(t, func() bool { s := l.Stats(); return s.HandshakeFailed == 1 && s.HalfOpen == 0 }, "it is counted")
			exchange(t, dialInTime(t, l), next(), "hello") // which is the first that was accepted
		})
	}
}

// TestNoHeadOfLineBlocking accepts at once while many clients are silent or stall.
func TestNoHeadOfLineBlocking(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Hour, HandshakeTimeout: time.Hour})
	for i := range 100 {
		c := dialTCP(t, l)
		if i%2 == 1 {
			_, err := io.WriteString(c, "MPA ID Req Frame")
			require.NoError(t, err)
		}
	}
	start := time.Now()
	exchangeMet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
	c := dial(t, l, iwarp.OffloadNever)
	_, err := io.WriteString(c, "hello")
	require.NoError(t, err)
	exchange(t, accept(t, l), c, "hello")
	require.Less(t, time.Since(start), patience)
	// The place of a connection that was handed over is free a moment later.
	eventually(t, func() bool { return l.Stats().HalfOpen == 100 }, "the silent clients are half-open, and no others")
}

// TestHalfOpenBound takes the oldest silent clients for plain TCP when there are too many.
func TestHalfOpenBound(t *testing.T) {
	const extra = 10
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Hour})
	var first []net.Addr
	for i := range iwarp.MaxSilent + extra {
		if c := dialTCP(t, l); i < extra {
			first = append(first, c.LocalAddr())
		}
	}
	got := make(map[string]bool)
	for range extra {
		c := accept(t, l)
		require.Equal(t, iwarp.ReasonSilent, describe(t, c).Reason)
		got[c.RemoteAddr().String()] = true
	}
	for _, a := range first {
		require.True(t, got[a.String()], "%v came early", a)
	}
	s := l.Stats()
	require.EqualValues(t, extra, s.Overflowed)
	eventually(t, func() bool { return l.Stats().HalfOpen == iwarp.MaxSilent }, "as many are half-open as may be")
}

// TestHandshakeBound drops the oldest stalled MPA requests when there are too many.
func TestHandshakeBound(t *testing.T) {
	const extra = 10
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Hour, HandshakeTimeout: time.Hour})
	next := acceptEach(t, l)
	var first []net.Conn
	for i := range iwarp.MaxHalfOpen + extra {
		c := dialTCP(t, l)
		_, err := io.WriteString(c, mpaKey)
		require.NoError(t, err)
		if i < extra {
			first = append(first, c)
		}
	}
	for _, c := range first {
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "%v", err)
	}
	require.GreaterOrEqual(t, l.Stats().Overflowed, uint64(extra))
	exchange(t, dial(t, l, iwarp.OffloadRequire), next(), "hello") // which is the first that was accepted
}

// TestBacklog leaves clients waiting, none lost, while nobody accepts.
func TestBacklog(t *testing.T) {
	const clients = 200
	l := listen(t, iwarp.ListenConfig{})
	for i := range clients {
		_, err := fmt.Fprintf(dialTCP(t, l), "%4d", i)
		require.NoError(t, err)
	}
	require.Zero(t, l.Stats())
	seen := make(map[string]bool)
	for range clients {
		b := make([]byte, 4)
		_, err := io.ReadFull(accept(t, l), b)
		require.NoError(t, err)
		seen[string(b)] = true
	}
	require.Len(t, seen, clients)
}
