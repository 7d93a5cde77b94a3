//go:build linux

package kernel

import (
	"cmp"
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

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

const (
	sigint  = 2
	sigusr1 = 10
)

// captured is what tcpdump says on sigusr1 and at its end.
var captured = regexp.MustCompile(`(\d+) packets captured,\s(\d+) packets received by filter`)

// What a session should be like on the wire.
type session struct {
	crc    bool     // all FPDUs carry CRCs
	rev    int      // MPA revision of requests and replies, if it matters
	stream bool     // each request carries what an rsocket needs, which a listening one does not survive without
	sees   []string // operations that occur

	broken      bool // the peer has failed: there may be no FPDU, or a part of one
	hashedTwice bool // the peer has sent an FPDU with a CRC that is wrong in this way
}

// expected are the sessions of a capture, by the server's port.
type expected map[int]session

// add expects sessions of the pair.
func (e expected) add(t *testing.T, p pair, s session) {
	t.Helper()
	port, err := strconv.Atoi(p.port)
	require.NoError(t, err)
	require.NotContains(t, e, port, "the capture is too large: its ports come round again")
	if p.ours.name == "host" {
		s.rev = 0 // QEMU connects before the guest listens, and then hangs up, which our end takes for a peer of revision 1
	}
	e[port] = s
}

// streamData is the least private data of the request for a stream.
const streamData = 40

// dissected counts what the dissectors have read.
type dissected struct {
	Captures, Sessions, FPDUs, Good int
	HashedTwice                     int // FPDUs that are left out
	Gaps                            int // captures that are not complete, and therefore not decoded
}

func (d *dissected) add(more dissected) {
	d.Captures += more.Captures
	d.Sessions += more.Sessions
	d.FPDUs += more.FPDUs
	d.Good += more.Good
	d.HashedTwice += more.HashedTwice
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

// captured runs a test whose sessions the guest captures, and has Wireshark's dissectors decode them. The test is to add each to want.
func (g *guest) captured(t *testing.T, dev string, test func(t *testing.T, want expected)) {
	t.Helper()
	const file = "/tmp/session.pcap"
	p := g.startFor(t, groupLimit, "tcpdump", "-i", dev, "-n", "-Z", "root", "-B", "65536", "-s", "0", "-w", file,
		"tcp", "and", "not", "port", strconv.Itoa(agentPort))
	require.NoError(t, p.WaitOutput("listening on"))
	want := make(expected)
	test(t, want)
	awaitCaptured(t, p, dev)
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

// awaitCaptured waits until tcpdump has what the kernel has, which hands it over in blocks.
func awaitCaptured(t *testing.T, tcpdump *agent.Process, dev string) {
	t.Helper()
	seen := 1
	if dev == "lo" {
		seen = 2 // as it leaves and as it arrives, of which tcpdump keeps one
	}
	eventually(t, tcpdump, func() bool {
		require.NoError(t, tcpdump.Signal(sigusr1))
		said := captured.FindAllStringSubmatch(tcpdump.Stderr(), -1)
		if len(said) == 0 {
			return false
		}
		has, err := strconv.Atoi(said[len(said)-1][1])
		require.NoError(t, err)
		return said[len(said)-1][2] == strconv.Itoa(seen*has)
	})
}

func keepCapture(t *testing.T, pcap string) {
	kept := filepath.Join(os.TempDir(), filepath.Base(pcap))
	t.Logf("capture kept in %s (%v)", kept, os.Rename(pcap, kept))
}

// onlyTCP has the dissectors take no interest in what TCP carries.
const onlyTCP = "tcp.port==1-65535,data"

var (
	mpaRevision = regexp.MustCompile(`(?m)^ *Revision: (\d+)$`)
	privateData = regexp.MustCompile(`(?s)Request frame header.*Private data length: (\d+) bytes`)
)

// dissect has Wireshark's dissectors read a capture, and checks what they find.
func dissect(pcap string, want expected) (found dissected, err error) {
	const bad = "_ws.malformed || _ws.expert.severity == error"
	if err := nothing(pcap, "-d", onlyTCP, "-Y", bad); err != nil {
		return found, err
	}
	mpa, servers, twice, err := realigned(pcap, want)
	if err != nil {
		return found, err
	}
	defer os.Remove(mpa)
	text, err := tshark(mpa, "-V", "-O", "iwarp_mpa,iwarp_ddp_rdmap")
	if err != nil {
		return found, err
	}
	read := make(map[int]*dissected)
	saw := make(map[string]bool)
	for frame := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		n, err := connectionOf(frame)
		if err != nil {
			return found, err
		}
		port := servers[n]
		s, ok := want[port]
		if !ok {
			return found, fmt.Errorf("a session that nobody expects, with port %d", port)
		}
		if read[port] == nil {
			read[port] = new(dissected)
		}
		if err := s.check(frame, read[port]); err != nil {
			return found, fmt.Errorf("port %d: %w", port, err)
		}
		for _, what := range s.sees {
			if strings.Contains(frame, "= OpCode: "+what+" (") {
				saw[what] = true
			}
		}
	}
	found.Captures = 1
	for port, s := range want {
		d := cmp.Or(read[port], new(dissected))
		if d.FPDUs == 0 && !s.broken {
			return found, fmt.Errorf("port %d: no FPDU", port)
		}
		for _, what := range s.sees {
			if !saw[what] {
				return found, fmt.Errorf("port %d: no %s", port, what)
			}
		}
		d.HashedTwice = twice[port]
		if s.hashedTwice != (d.HashedTwice > 0) {
			return found, fmt.Errorf("port %d: %d FPDUs that were hashed twice", port, d.HashedTwice)
		}
		found.add(*d)
	}
	return found, nil
}

// connectionOf is the number that realigned gave the connection of a frame.
func connectionOf(frame string) (n int, err error) {
	_, behind, _ := strings.Cut(frame, ", Src: ")
	var way, high, middle, low int
	if _, err := fmt.Sscanf(behind, "%d.%d.%d.%d,", &way, &high, &middle, &low); err != nil {
		return 0, fmt.Errorf("%w in %.200s", err, frame)
	}
	return high<<16 | middle<<8 | low, nil
}

// check looks at a frame of the session, and counts it.
func (s session) check(frame string, d *dissected) error {
	if strings.Contains(frame, "[Malformed Packet") || strings.Contains(frame, "[Expert Info (Error") {
		return errors.New(frame)
	}
	if m := mpaRevision.FindStringSubmatch(frame); m != nil && s.rev > 0 && m[1] != strconv.Itoa(s.rev) {
		return fmt.Errorf("MPA revision %s, not %d", m[1], s.rev)
	}
	if m := privateData.FindStringSubmatch(frame); m != nil {
		if n, err := strconv.Atoi(m[1]); err != nil || s.stream && n < streamData {
			return fmt.Errorf("a request with %s bytes of private data", m[1])
		}
		d.Sessions++
	}
	if !strings.Contains(frame, "ULPDU length: ") {
		return nil
	}
	d.FPDUs++
	good := strings.Contains(frame, " (Good CRC32)")
	if good {
		d.Good++
	}
	if strings.Contains(frame, "(Bad CRC32") || good != s.crc {
		return fmt.Errorf("a CRC that is wrong, missing or not wanted: %s", frame)
	}
	return nil
}

// captures is the section of the document on what was decoded.
func captures() string {
	return fmt.Sprintf("%d captures of %d sessions with %d FPDUs, %d of them with a good CRC and none with a bad one; no frame is malformed, and each request "+
		"for a stream carries private data. As the dissector knows only FPDUs that begin a segment, it reads the streams with each FPDU in a segment of its own. "+
		"%d FPDUs that siw had hashed twice were left out. %d captures had gaps, and were not decoded.\n",
		decoded.Captures, decoded.Sessions, decoded.FPDUs, decoded.Good, decoded.HashedTwice, decoded.Gaps)
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
