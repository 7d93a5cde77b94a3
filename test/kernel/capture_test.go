//go:build linux

package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

const (
	sigint  = 2
	sigusr1 = 10
)

// captured is what tcpdump says on sigusr1 and at its end.
var captured = regexp.MustCompile(`(\d+) packets captured,\s(\d+) packets received by filter`)

// A decoding is a capture that is decoded while the guest goes on.
type decoding struct {
	name  string // of the test
	pcap  string
	ended chan struct{}
	found dissected
	err   error
}

var decodings []*decoding

// decoder is held by the one decoding that runs.
var decoder sync.Mutex

func startDecoding(name, pcap string, want expected) {
	d := &decoding{name: name, pcap: pcap, ended: make(chan struct{})}
	decodings = append(decodings, d)
	go func() {
		defer close(d.ended)
		decoder.Lock()
		defer decoder.Unlock()
		d.found, d.err = dissect(pcap, want)
	}()
}

// awaitDecodings has a subtest for each capture of the test.
func awaitDecodings(t *testing.T) {
	for _, d := range decodings {
		t.Run("decode/"+strings.TrimPrefix(d.name, t.Name()+"/"), func(t *testing.T) {
			<-d.ended
			if d.err != nil {
				keepCapture(t, d.pcap)
			}
			require.NoError(t, d.err)
			require.NoError(t, os.Remove(d.pcap))
			decoded.add(d.found)
		})
	}
	decodings = nil
}

// captured runs a test whose sessions the guest captures, and has Wireshark's dissectors decode
// them. The test is to add each to want.
func (g *guest) captured(t *testing.T, dev string, test func(t *testing.T, want expected)) {
	t.Helper()
	const file = "/tmp/session.pcap"
	p := g.startFor(t, captureLimit, "tcpdump", "-i", dev, "-n", "-Z", "root", "-B", "65536", "-s", "0", "-w", file,
		"tcp", "and", "not", "port", strconv.Itoa(agentPort))
	require.NoError(t, p.WaitOutput("listening on"))
	behind := func() int { return tcpdumpIsBehind(t, p, dev) }
	before := behind() // by what came before there was a filter
	want := make(expected)
	test(t, want)
	eventually(t, p, func() bool { return behind() <= before })
	require.NoError(t, p.Signal(sigint))
	succeeds(t, p)
	pcap := filepath.Join(bin, fmt.Sprintf("%s-%d.pcap", strings.ReplaceAll(t.Name(), "/", "_"), len(decodings)))
	require.NoError(t, g.fetch(t, file, pcap))
	switch {
	case t.Failed():
		keepCapture(t, pcap)
	case !strings.Contains(p.Stderr(), "\n0 packets dropped by kernel"):
		t.Logf("not decoded, as the capture has gaps: %s", lastLine(p.Stderr()))
		decoded.Gaps++
		require.NoError(t, os.Remove(pcap))
	default:
		startDecoding(t.Name(), pcap, want)
	}
}

// tcpdumpIsBehind returns how many packets tcpdump does not have yet of those that the kernel has,
// which hands them over in blocks.
func tcpdumpIsBehind(t *testing.T, tcpdump *agent.Process, dev string) int {
	t.Helper()
	all := func() [][]string { return captured.FindAllStringSubmatch(tcpdump.Stderr(), -1) }
	known := len(all())
	require.NoError(t, tcpdump.Signal(sigusr1))
	eventually(t, tcpdump, func() bool { return len(all()) > known })
	said := all()[known]
	has, err := strconv.Atoi(said[1])
	require.NoError(t, err)
	came, err := strconv.Atoi(said[2])
	require.NoError(t, err)
	if dev == "lo" {
		has *= 2 // each comes as it leaves and as it arrives, of which tcpdump keeps one
	}
	return came - has
}

func keepCapture(t *testing.T, pcap string) {
	kept := filepath.Join(os.TempDir(), filepath.Base(pcap))
	t.Logf("capture kept in %s (%v)", kept, os.Rename(pcap, kept))
}
