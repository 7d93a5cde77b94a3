package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serveEach handles each connection of l, and closes it. What it returns waits for all of them,
// once l is closed.
func serveEach(l net.Listener, handle func(c net.Conn)) (wait func()) {
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				handle(c)
				_ = c.Close()
			})
		}
	})
	return serving.Wait
}

// TestStream checks a Listener of the library, to which each connection is a stream.
func TestStream(t *testing.T) {
	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := serveEach(l, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	kept(t, l.Addr().String())
	require.NoError(t, l.Close())
	served()
}

// TestQueuePairs checks software iWARP as it is, with receives of 16 bytes.
func TestQueuePairs(t *testing.T) {
	l, err := soft.New(nil).Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			r, err := l.Accept(ctx)
			if err != nil {
				return
			}
			serving.Go(func() { serve(ctx, r) })
		}
	})
	kept(t, l.Addr().String(), "-private", "00")
	cancel()
	require.NoError(t, l.Close())
	serving.Wait()
}

func serve(ctx context.Context, r transport.Request) {
	q := r.QueuePair()
	defer q.Close()
	mem := make([]byte, 64)
	region, err := q.RegisterMemory(mem, transport.LocalWrite)
	if err != nil {
		return
	}
	for range 4 {
		_, _ = q.PostRecv([]transport.RecvWR{{Data: mem[:16], Region: region}})
	}
	if r.Accept(ctx, nil) != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = q.Abort() })()
	for q.Err() == nil {
		_ = q.Wait(time.Time{})
		q.Poll(make([]transport.Completion, 4))
	}
}

// kept expects every rule to be kept.
func kept(t *testing.T, address string, flags ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(append(flags, "-timeout", "20s", address), &out, &errs)
	require.Empty(t, errs.String())
	require.Equal(t, exitKept, code, lines(out.String(), "BROKEN"))
	require.Contains(t, out.String(), ", 0 broken")
}

// lines are those of text from each with the word on, three at a time.
func lines(text, word string) string {
	var found []string
	all := strings.Split(text, "\n")
	for i, l := range all {
		if strings.HasPrefix(l, word) {
			found = append(found, all[i:min(i+3, len(all))]...)
		}
	}
	return strings.Join(found, "\n")
}

// TestBroken finds fault with a server that only echoes, and says so in each format.
func TestBroken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := serveEach(l, func(c net.Conn) { _, _ = io.Copy(c, c) })
	results := func(format string) string {
		var out bytes.Buffer
		require.Equal(t, exitBroken, run([]string{"-run", "rdmap version 2|request of revision 1", "-format", format, l.Addr().String()}, &out, io.Discard))
		return out.String()
	}
	require.Contains(t, results("text"), "3 cases, 3 broken")
	var parsed []result
	require.NoError(t, json.Unmarshal([]byte(results("json")), &parsed))
	require.Len(t, parsed, 3)
	require.Contains(t, results("tap"), "\n1..3\nnot ok 1 - RFC 5044 §7.1: request of revision 1\n")
	var suite struct {
		Failures int `xml:"failures,attr"`
	}
	require.NoError(t, xml.Unmarshal([]byte(results("junit")), &suite))
	require.Equal(t, 3, suite.Failures)
	require.NoError(t, l.Close())
	served()
}

func TestCases(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range allCases() {
		require.False(t, seen[c.title()], c.title())
		require.NotEmpty(t, c.rule)
		seen[c.title()] = true
	}
	require.GreaterOrEqual(t, len(seen), 150)
	t.Log(len(seen), "cases")
}
