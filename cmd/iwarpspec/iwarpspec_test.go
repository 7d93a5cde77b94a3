package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// patience is the limit for a case. A mutant that is silent shows it sooner.
func patience() string {
	if mutated() {
		return "500ms"
	}
	return "20s"
}

func mutated() bool {
	n := os.Getenv(mutantVariable)
	return n != "" && n != "0"
}

// asProgram makes the test binary the program.
const asProgram = "IWARP_TEST_SPEC"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	if mutated() {
		quiet *= 15 // a busy machine may take longer to say what it should not
	}
	leak.Main(m)
}

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

// TestStream checks a Listener of the library, to which each connection is a stream. The server
// speaks first, so that there is something to hold back.
func TestStream(t *testing.T) {
	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := serveEach(l, func(c net.Conn) {
		_, _ = c.Write([]byte("hello"))
		_, _ = io.Copy(io.Discard, c)
	})
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
	code := run(append(flags, "-timeout", patience(), "-run", os.Getenv(runVariable), address), &out, &errs)
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
		require.Equal(t, exitBroken, run([]string{"-run", "rdmap version 2, rev|request of revision 1", "-format", format, l.Addr().String()}, &out, io.Discard))
		return out.String()
	}
	require.Contains(t, results("text"), "3 cases, 3 broken, 0 skipped")
	var parsed []result
	require.NoError(t, json.Unmarshal([]byte(results("json")), &parsed))
	require.Len(t, parsed, 3)
	require.Contains(t, results("tap"), "\n1..3\nnot ok 1 - RFC 5044 §7.1.1: request of revision 1\n")
	var suite struct {
		Failures int `xml:"failures,attr"`
	}
	require.NoError(t, xml.Unmarshal([]byte(results("junit")), &suite))
	require.Equal(t, 3, suite.Failures)
	require.NoError(t, l.Close())
	served()
}

// TestInitiator checks a Dialer of the library, in both revisions of MPA.
func TestInitiator(t *testing.T) {
	for _, revision := range []string{"1", "2"} {
		t.Run("revision "+revision, func(t *testing.T) {
			initiates(t, nil, func(address string) {
				_ = run([]string{"-dial", "-revision", revision, "-timeout", "20s", address}, io.Discard, io.Discard)
			})
		})
	}
}

// TestQueuePairInitiator checks software iWARP as it is.
func TestQueuePairInitiator(t *testing.T) {
	initiates(t, []string{"-private", "00"}, func(address string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c, err := soft.New(nil).Dial(ctx, netip.AddrPort{}, netip.MustParseAddrPort(address), nil)
		if err != nil {
			return
		}
		q := c.QueuePair()
		defer q.Close()
		mem := make([]byte, 64)
		region, err := q.RegisterMemory(mem, transport.LocalWrite)
		if err != nil {
			return
		}
		_, _ = q.PostRecv([]transport.RecvWR{{Data: mem[:16], Region: region}})
		if _, err := c.Connect(ctx, nil); err != nil {
			return
		}
		defer context.AfterFunc(ctx, func() { _ = q.Abort() })()
		_, _ = q.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("x")}})
		for q.Err() == nil {
			_ = q.Wait(time.Time{})
			q.Poll(make([]transport.Completion, 4))
		}
	})
}

// initiates expects what dials, again and again, to keep every rule.
func initiates(t *testing.T, flags []string, dial func(address string)) {
	t.Helper()
	r, w := io.Pipe()
	var out, more bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(append(flags, "-listen", "127.0.0.1:0", "-timeout", patience(), "-run", os.Getenv(runVariable)), &out, w)
		_ = w.Close()
	}()
	errs := bufio.NewReader(r)
	line, err := errs.ReadString('\n')
	require.NoError(t, err)
	_, address, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	rest := make(chan struct{})
	go func() {
		defer close(rest)
		_, _ = io.Copy(&more, errs)
	}()
	for over := false; !over; {
		dial(address)
		select {
		case <-rest:
			over = true
		default:
		}
	}
	require.Equal(t, exitKept, <-code, lines(out.String(), "BROKEN"))
	require.Empty(t, more.String())
	require.Contains(t, out.String(), ", 0 broken")
}

// TestExec has a command connect for each case.
func TestExec(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	var out, errs bytes.Buffer
	code := run([]string{"-listen", "127.0.0.1:0", "-timeout", "20s", "-run", "request|version 3", "-exec",
		"env " + asProgram + "=1 " + exe + ` -dial "$ADDRESS"`}, &out, &errs)
	require.Equal(t, exitKept, code, out.String()+errs.String())
	require.Contains(t, out.String(), ", 0 broken")
}

func TestCases(t *testing.T) {
	for _, responder := range []bool{false, true} {
		seen := make(map[string]bool)
		for _, c := range allCases(responder) {
			require.False(t, seen[c.title()], c.title())
			require.NotEmpty(t, c.rule)
			seen[c.title()] = true
		}
		require.GreaterOrEqual(t, len(seen), 150)
		t.Log(len(seen), "cases")
	}
}
