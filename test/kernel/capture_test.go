//go:build linux

package kernel

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const sigint = 2

// captured runs a test whose sessions the guest captures, and has Wireshark's dissectors decode them. crc is whether all FPDUs should carry CRCs.
func (g *guest) captured(t *testing.T, r route, crc bool, test func(t *testing.T)) {
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
		return
	}
	t.Run("decode", func(t *testing.T) { checkCapture(t, pcap, crc, nil) })
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

func checkCapture(t *testing.T, pcap string, crc bool, sees []string) {
	// The dissector gives up on a segment of more FPDUs than it has layers, and takes the request of a connection whose ports were used
	// before for an FPDU of that.
	const itsOwn = `_ws.expert.message contains "saved_layers_len" || tcp.payload[0:8] == 4d:50:41:20:49:44:20:52`
	const faults = "(_ws.malformed || _ws.expert.severity == error)"
	require.Empty(t, tshark(t, pcap, "-Y", faults+" && !("+itsOwn+")"))
	if n := strings.Count(tshark(t, pcap, "-Y", faults+" && ("+itsOwn+")"), "\n"); n > 0 {
		t.Logf("the dissector cannot take %d segments", n)
	}
	text := tshark(t, pcap, "-V", "-O", "iwarp_mpa,iwarp_ddp_rdmap")
	for _, what := range sees {
		require.Regexp(t, `= OpCode: `+what+` \(`, text)
	}
	fpdus := strings.Count(text, "ULPDU length: ")
	require.Positive(t, fpdus)
	good := strings.Count(text, " (Good CRC32)")
	require.Zero(t, strings.Count(text, "(Bad CRC32"), "FPDUs with a bad CRC")
	want := 0
	if crc {
		want = fpdus
	}
	require.Equal(t, want, good, "good CRCs of %d FPDUs", fpdus)
	t.Logf("%d sessions, %d FPDUs, %d good CRCs", strings.Count(text, "Request frame header"), fpdus, good)
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
