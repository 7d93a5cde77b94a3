//go:build linux

package kernel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// preload has a program use rsockets for its sockets, for less than cellLimit.
var preload = []string{"env", "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/rsocket/librspreload.so", "timeout", "40"}

// A swap is a program that knows nothing of RDMA, as both ends of a connection.
type swap struct {
	name           string
	server, client func(p pair) []string
}

func words(format string, a ...any) []string { return strings.Fields(fmt.Sprintf(format, a...)) }

const file = "/tmp/stream" // of bytes to send

var swaps = []swap{
	{"socat",
		func(p pair) []string {
			return words("socat -u TCP-LISTEN:%s,bind=%s OPEN:/tmp/socat,creat,trunc", p.port, p.addr)
		},
		func(p pair) []string { return words("socat -u OPEN:%s TCP:%s:%s", file, p.addr, p.port) }},
	{"NetPIPE",
		func(p pair) []string { return words("NPtcp -n 5 -u 64 -P %s", p.port) },
		func(p pair) []string { return words("NPtcp -n 5 -h %s -u 64 -P %s -o /tmp/np", p.addr, p.port) }},
	{"iperf3",
		func(p pair) []string { return words("iperf3 -s -1 -B %s -p %s", p.addr, p.port) },
		func(p pair) []string { return words("iperf3 -c %s -p %s -n 1M", p.addr, p.port) }},
	{"nuttcp",
		func(p pair) []string { return words("nuttcp -1 -P %s", p.port) },
		func(p pair) []string { return words("nuttcp -P %s -n 1m %s", p.port, p.addr) }},
}

// swap runs both programs in the guest and returns why they do not work, if they do not.
func (g *guest) swap(t *testing.T, p pair, server, client []string) (fault string) {
	t.Helper()
	return g.meet(t, p, server, &g.place, client)
}

// meet is swap with a place for the client.
func (g *guest) meet(t *testing.T, p pair, server []string, at *place, client []string) (fault string) {
	t.Helper()
	bound := cmp.Or(p.limit, cellLimit)
	s := g.startFor(t, bound, server...)
	limit := time.Now().Add(cellLimit / 2)
	for !g.listens(t, p) {
		if time.Now().After(limit) {
			s.Kill()
			return "the server does not listen"
		}
	}
	c := at.startFor(t, bound, again(client)...)
	if why := failure(c); why != "" {
		s.Kill()
		fault = "the client " + why
	} else if why := failure(s); why != "" {
		fault = "the server " + why
	}
	if fault != "" {
		t.Logf("%s\nserver: %s%s\nclient: %s%s", fault, s.Stdout(), s.Stderr(), c.Stdout(), c.Stderr())
	}
	return fault
}

// failure waits for the end of a program, and says what is wrong with it.
func failure(p *agent.Process) string {
	const stalled = 124 // of timeout
	exit, err := p.Wait()
	switch {
	case err != nil:
		return "dies: " + err.Error()
	case exit == stalled:
		return "stalls"
	case exit != 0:
		return "fails"
	}
	return ""
}

// faulty are the programs that do not work among themselves, and why. It is empty for one that
// works at times.
var faulty = make(map[string]string)

// outcomeOf notes how a swap has ended. Where two C ends work, if only at times, it must work with
// us.
func outcomeOf(t *testing.T, c cell, program, why string) {
	t.Helper()
	was, known := faulty[program]
	control := c.Role == "control"
	switch {
	case why == "":
		if control {
			faulty[program] = ""
		}
		record(t, c)
	case control:
		if !known {
			faulty[program] = why
		}
		fault(t, c, why)
	case was == "":
		record(t, c)
		require.Empty(t, why, "two C ends work")
	default:
		fault(t, c, why+" (two C ends: "+was+")")
	}
}

// What unmodified programs do on rsockets among themselves, and with us.
func TestPreload(t *testing.T) {
	g := theGuest(t)
	g.streamFile(t)
	r := g.route("veth")
	for _, s := range swaps {
		t.Run("control/"+s.name, func(t *testing.T) {
			p := g.inGuest(false)
			why := g.swap(t, p, append(preload, s.server(p)...), append(preload, s.client(p)...))
			outcomeOf(t, cell{s.name + " preloaded (siw)", "control", "eth0", "both ends are C"}, s.name, why)
		})
	}
	g.captured(t, r.dev, func(t *testing.T, want expected) {
		want.add(t, pair{port: nuttcpPort}, mayStall)
		for _, s := range swaps {
			if *fullFlag || faulty[s.name] == "" {
				s.relayed(t, g, r, want)
			}
		}
	})
	socat := swaps[0]
	g.captured(t, "lo", func(t *testing.T, want expected) {
		t.Run("socat to us", func(t *testing.T) {
			p := g.inGuest(true)
			want.add(t, p, mayStall)
			why := g.swap(t, p, words("go-stream -l %s -p %s -r %d -d 40s", p.addr, p.port, streamBytes), append(preload, socat.client(p)...))
			outcomeOf(t, cell{"socat preloaded (siw)", "server", "eth0", "a file to us"}, socat.name, why)
		})
		t.Run("socat from us", func(t *testing.T) {
			p := g.inGuest(false)
			want.add(t, p, mayStall)
			why := g.swap(t, p, append(preload, socat.server(p)...), words("go-stream -c %s -p %s -s %d -d 40s", p.addr, p.port, streamBytes))
			outcomeOf(t, cell{"socat preloaded (siw)", "client", "eth0", "a file from us"}, socat.name, why)
			if why == "" {
				g.run(t, "cmp", file, "/tmp/socat")
			}
		})
	})
	awaitDecodings(t)
}

const streamBytes = 300_000

// streamFile makes a file in the guest of the bytes that go-stream expects.
func (g *guest) streamFile(t *testing.T) {
	t.Helper()
	p := g.inGuest(false)
	s := g.start(t, words("socat -u TCP-LISTEN:%s,bind=%s OPEN:%s,creat,trunc", p.port, p.addr, file)...)
	g.awaitListener(t, s, p)
	g.run(t, words("go-stream -t -c %s -p %s -s %d -e close", p.addr, p.port, streamBytes)...)
	succeeds(t, s)
}

// httpBody is what go-httpd answers.
func httpBody(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % (64 << 10) % 251)
	}
	return string(b)
}

// An unmodified curl on rsockets, and net/http on a listener of ours, which serves plain curl on
// the same port.
func TestPreloadCurl(t *testing.T) {
	g := theGuest(t)
	g.streamFile(t)
	sum := strings.Fields(g.run(t, "sha256sum", file))[0]
	for _, s := range []struct {
		name   string
		policy string
		prefix []string
	}{
		{"rsockets, iWARP only", "require", preload},
		{"rsockets, both", "auto", preload},
		{"plain, both", "auto", []string{"timeout", "40"}},
	} {
		p := g.inGuest(true)
		server := g.startFor(t, groupLimit, "env", "IWARP_OFFLOAD="+s.policy, "go-httpd", "-l", p.addr+":"+p.port)
		require.NoError(t, server.WaitOutput("listening on"))
		url := "http://" + p.addr + ":" + p.port
		requests := func(t *testing.T) {
			for _, c := range []struct {
				name string
				args []string
				want string
			}{
				{"get 100 bytes", words("curl -sS %s/100", url), httpBody(100)},
				{"get 1 MB", words("curl -sS %s/1000000", url), httpBody(1_000_000)},
				{"post a file", words("curl -sS --data-binary @%s -H Expect: %s/", file, url), fmt.Sprintf("%d %s\n", streamBytes, sum)},
				{"two requests on one connection", words("curl -sS -o /tmp/got -o /tmp/got2 -w %%{num_connects} %s/10 %s/2000", url, url), "10"},
			} {
				t.Run(s.name+"/"+c.name, func(t *testing.T) {
					record(t, cell{"curl (" + s.name + ")", "server", "eth0", c.name})
					require.True(t, c.want == g.run(t, again(slices.Concat(s.prefix, c.args))...))
				})
			}
		}
		if s.prefix[0] == preload[0] {
			g.captured(t, "lo", func(t *testing.T, want expected) {
				want.add(t, p, session{crc: true, stream: true})
				requests(t)
			})
		} else {
			requests(t)
		}
	}
	awaitDecodings(t)
}
