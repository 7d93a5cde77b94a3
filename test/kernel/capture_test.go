//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const sigint = 2

// What a session should be like on the wire.
type session struct {
	crc    bool     // all FPDUs carry CRCs
	rev    int      // MPA revision of requests and replies, if it matters
	stream bool     // each request carries what an rsocket needs, which a listening one does not survive without
	sees   []string // operations that occur
}

// streamData is the least private data of the request for a stream.
const streamData = 40

// dissected counts what the dissectors have read.
type dissected struct {
	Captures, Sessions, FPDUs, Good int
	Gaps                            int // captures that are not complete, and therefore not decoded
}

func (d *dissected) add(more dissected) {
	d.Captures += more.Captures
	d.Sessions += more.Sessions
	d.FPDUs += more.FPDUs
	d.Good += more.Good
	d.Gaps += more.Gaps
}

var decoded dissected

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

func startDecoding(name, pcap string, s session) {
	d := &decoding{name: name, pcap: pcap, ended: make(chan struct{})}
	decodings = append(decodings, d)
	go func() {
		defer close(d.ended)
		decoder.Lock()
		defer decoder.Unlock()
		d.found, d.err = dissect(pcap, s)
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
	pcap := filepath.Join(bin, fmt.Sprintf("%s-%d.pcap", strings.ReplaceAll(t.Name(), "/", "_"), len(decodings)))
	require.NoError(t, os.WriteFile(pcap, []byte(g.run(t, "cat", file)), 0o600))
	if r.name == "host" {
		s.rev = 0 // QEMU connects before the guest listens, and then hangs up, which our end takes for a peer of revision 1
	}
	switch {
	case t.Failed():
		keepCapture(t, pcap)
	case !strings.Contains(p.Stderr(), "\n0 packets dropped by kernel"):
		t.Logf("not decoded, as the capture has gaps: %s", lastLine(p.Stderr()))
		decoded.Gaps++
		require.NoError(t, os.Remove(pcap))
	default:
		startDecoding(t.Name(), pcap, s)
	}
}

func keepCapture(t *testing.T, pcap string) {
	kept := filepath.Join(os.TempDir(), filepath.Base(pcap))
	t.Logf("capture kept in %s (%v)", kept, os.Rename(pcap, kept))
}

// onlyTCP has the dissectors take no interest in what TCP carries.
const onlyTCP = "tcp.port==1-65535,data"

var (
	revision    = regexp.MustCompile(`(?m)^ *Revision: (\d+)$`)
	privateData = regexp.MustCompile(`Request frame header(?s:.*?)Private data length: (\d+) bytes`)
)

// dissect has Wireshark's dissectors read a capture, and checks what they find.
func dissect(pcap string, s session) (found dissected, err error) {
	const bad = "_ws.malformed || _ws.expert.severity == error"
	if err := nothing(pcap, "-d", onlyTCP, "-Y", bad); err != nil {
		return found, err
	}
	mpa, err := realigned(pcap)
	if err != nil {
		return found, err
	}
	defer os.Remove(mpa)
	if err := nothing(mpa, "-Y", bad); err != nil {
		return found, err
	}
	text, err := tshark(mpa, "-V", "-O", "iwarp_mpa,iwarp_ddp_rdmap")
	if err != nil {
		return found, err
	}
	for _, what := range s.sees {
		if !strings.Contains(text, "= OpCode: "+what+" (") {
			return found, fmt.Errorf("no %s", what)
		}
	}
	for _, m := range revision.FindAllStringSubmatch(text, -1) {
		if s.rev > 0 && m[1] != strconv.Itoa(s.rev) {
			return found, fmt.Errorf("MPA revision %s, not %d", m[1], s.rev)
		}
	}
	requests := privateData.FindAllStringSubmatch(text, -1)
	for _, m := range requests {
		if n, err := strconv.Atoi(m[1]); err != nil || s.stream && n < streamData {
			return found, fmt.Errorf("a request with %s bytes of private data", m[1])
		}
	}
	found = dissected{Captures: 1, Sessions: len(requests), FPDUs: strings.Count(text, "ULPDU length: "), Good: strings.Count(text, " (Good CRC32)")}
	want := 0
	if s.crc {
		want = found.FPDUs
	}
	if n := strings.Count(text, "(Bad CRC32"); n > 0 || found.Good != want || found.FPDUs == 0 {
		return found, fmt.Errorf("%d FPDUs with %d good and %d bad CRCs", found.FPDUs, found.Good, n)
	}
	return found, nil
}

// captures is the section of the document on what was decoded.
func captures() string {
	return fmt.Sprintf("%d captures of %d sessions with %d FPDUs, %d of them with a good CRC and none with a bad one; no frame is malformed, and each request "+
		"for a stream carries private data. As the dissector knows only FPDUs that begin a segment, it reads the streams with each FPDU in a segment of its own. "+
		"%d captures had gaps, and were not decoded.\n",
		decoded.Captures, decoded.Sessions, decoded.FPDUs, decoded.Good, decoded.Gaps)
}

// tshark runs it on a capture. rpcordma claims some short Sends for itself, and then calls them malformed.
func tshark(pcap string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), groupLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "tshark", append([]string{"-n", "--disable-protocol", "rpcordma", "-r", pcap}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("tshark: %w: %s", err, stderr.String())
	}
	return string(out), nil
}

// nothing runs tshark, which is to print nothing.
func nothing(pcap string, args ...string) error {
	said, err := tshark(pcap, args...)
	if err == nil && said != "" {
		err = errors.New(said)
	}
	return err
}
