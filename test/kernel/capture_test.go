//go:build linux

package kernel

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const sigint = 2

// What a session should be like on the wire.
type session struct {
	crc    bool     // all FPDUs carry CRCs
	stream bool     // each request carries what an rsocket needs, which a listening one does not survive without
	sees   []string // operations that occur
}

// streamData is the least private data of the request for a stream.
const streamData = 40

// decoded counts what the dissectors have read.
var decoded dissected

type dissected struct {
	Captures, Sessions, FPDUs, Good int
	Gaps                            int // captures that are not complete, and therefore not decoded
}

// captured runs a test whose sessions the guest captures, and has Wireshark's dissectors decode them.
func (g *guest) captured(t *testing.T, r route, s session, test func(t *testing.T)) {
	t.Helper()
	const file = "/tmp/session.pcap"
	p := g.startFor(t, groupLimit, "tcpdump", "-i", r.dev, "-n", "-Z", "root", "--immediate-mode", "-B", "65536", "-s", "0", "-w", file,
		"tcp", "and", "not", "port", strconv.Itoa(agentPort))
	require.NoError(t, p.WaitOutput("listening on"))
	test(t)
	require.NoError(t, p.Signal(sigint))
	succeeds(t, p)
	pcap := filepath.Join(t.TempDir(), "session.pcap")
	require.NoError(t, os.WriteFile(pcap, g.fetch(t, file), 0o600))
	t.Cleanup(func() {
		if t.Failed() {
			kept := filepath.Join(os.TempDir(), strings.ReplaceAll(t.Name(), "/", "_")+".pcap")
			t.Logf("capture kept in %s (%v)", kept, os.Rename(pcap, kept))
		}
	})
	if t.Failed() {
		return
	}
	if !strings.Contains(p.Stderr(), "\n0 packets dropped by kernel") {
		t.Logf("not decoded, as the capture has gaps: %s", lastLine(p.Stderr()))
		decoded.Gaps++
		return
	}
	t.Run("decode", func(t *testing.T) { checkCapture(t, pcap, s) })
}

// fetch returns a file of the guest.
func (g *guest) fetch(t *testing.T, file string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cellLimit)
	defer cancel()
	p, err := g.Start(ctx, "cat", file)
	require.NoError(t, err)
	exit, err := p.Wait()
	require.NoError(t, err)
	require.Zero(t, exit, p.Stderr())
	return []byte(p.Stdout())
}

func checkCapture(t *testing.T, pcap string, s session) {
	pcap = realigned(t, pcap)
	require.Empty(t, tshark(t, pcap, "-Y", "_ws.malformed || _ws.expert.severity == error"))
	text := tshark(t, pcap, "-V", "-O", "iwarp_mpa,iwarp_ddp_rdmap")
	for _, what := range s.sees {
		require.Regexp(t, `= OpCode: `+what+` \(`, text)
	}
	fpdus := strings.Count(text, "ULPDU length: ")
	require.Positive(t, fpdus)
	good := strings.Count(text, " (Good CRC32)")
	require.Zero(t, strings.Count(text, "(Bad CRC32"), "FPDUs with a bad CRC")
	want := 0
	if s.crc {
		want = fpdus
	}
	require.Equal(t, want, good, "good CRCs of %d FPDUs", fpdus)
	requests := strings.Fields(tshark(t, pcap, "-Y", "iwarp_mpa.req", "-T", "fields", "-e", "iwarp_mpa.pdlength"))
	for _, n := range requests {
		length, err := strconv.Atoi(n)
		require.NoError(t, err)
		require.False(t, s.stream && length < streamData, "a request with %d bytes of private data", length)
	}
	t.Logf("%d sessions, %d FPDUs, %d good CRCs", len(requests), fpdus, good)
	decoded.Captures++
	decoded.Sessions += len(requests)
	decoded.FPDUs += fpdus
	decoded.Good += good
}

// captures is the section of the document on what was decoded.
func captures() string {
	return fmt.Sprintf("%d captures of %d sessions with %d FPDUs, %d of them with a good CRC and none with a bad one; no frame is malformed, and each request "+
		"for a stream carries private data. As the dissector knows only FPDUs that begin a segment, it reads the streams with each FPDU in a segment of its own. "+
		"%d captures had gaps, and were not decoded.\n",
		decoded.Captures, decoded.Sessions, decoded.FPDUs, decoded.Good, decoded.Gaps)
}

// tshark runs it on a capture. rpcordma claims some short Sends for itself, and then calls them malformed.
func tshark(t *testing.T, pcap string, args ...string) string {
	t.Helper()
	cmd := exec.Command("tshark", append([]string{"-n", "--disable-protocol", "rpcordma", "-r", pcap}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}
