//go:build linux

package kernel

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

// What a session should be like on the wire.
type session struct {
	crc    bool     // all FPDUs carry CRCs
	rev    int      // MPA revision of requests and replies, if it matters
	stream bool     // each request carries what an rsocket needs, which a listening one does not survive without
	sees   []string // operations that occur

	broken      bool // the peer has failed: there may be no MPA, no FPDU, or a part of one
	hashedTwice bool // the peer has sent an FPDU with a CRC that is wrong in this way
}

// expected are the sessions of a capture, by the server's port.
type expected map[int]session

// expecting is held by who adds to one.
var expecting sync.Mutex

// add expects sessions of the pair.
func (e expected) add(t *testing.T, p pair, s session) {
	t.Helper()
	port, err := strconv.Atoi(p.port)
	require.NoError(t, err)
	expecting.Lock()
	defer expecting.Unlock()
	require.NotContains(t, e, port, "the capture is too large: its ports come round again")
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

// onlyTCP makes the dissectors ignore what TCP carries.
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
	// No port says what it carries: the client's is any.
	text, err := tshark(mpa, "-o", "tcp.try_heuristic_first:TRUE", "-V", "-O", "iwarp_mpa,iwarp_ddp_rdmap")
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

// tshark runs it on a capture. rpcordma claims some short Sends for itself, and then calls them
// malformed.
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

// What is wrong in a capture is found.
func TestDissect(t *testing.T) {
	needs(t)
	request := func(private int) []byte {
		b := append([]byte(mpaRequest), 0x40, 2, 0, byte(private))
		return append(b, make([]byte, private)...)
	}
	reply := append([]byte(mpaReply), 0x40, 2, 0, 0)
	// An empty Send: length, DDP and RDMAP control, queue 0, message 1, offset 0.
	send := []byte{0, 18, 0x41, 0x43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}
	good := binary.LittleEndian.AppendUint32(bytes.Clone(send), crc32.Checksum(send, crc32.MakeTable(crc32.Castagnoli)))
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	want := session{crc: true, rev: 2, stream: true, sees: []string{"Send"}}
	for _, c := range []struct {
		name    string
		frames  [][]byte // from the initiator
		answer  []byte
		session session
		wrong   string
	}{
		{"good", [][]byte{request(streamData), good}, reply, want, ""},
		{"bad crc", [][]byte{request(streamData), good, bad}, reply, want, "a CRC that is wrong"},
		{"little private data", [][]byte{request(4), good}, reply, want, "4 bytes of private data"},
		{"no such operation", [][]byte{request(streamData), good}, reply, session{crc: true, sees: []string{"Write"}}, "no Write"},
		{"other revision", [][]byte{request(streamData), good}, reply, session{crc: true, rev: 1}, "MPA revision 2, not 1"},
		{"no mpa", [][]byte{[]byte("GET / HTTP/1.1")}, nil, want, "a stream that begins with"},
		{"half a frame", [][]byte{request(streamData), good[:10]}, reply, want, "ends within a frame"},
		{"malformed", [][]byte{request(streamData), {0, 1, 0x41, 0, 0, 0, 0, 0}}, reply, session{}, "Malformed"},
		{"nothing", [][]byte{request(streamData)}, reply, want, "no FPDU"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newPcapWriter()
			initiator, responder := &half{srcPort: 1, dstPort: 2}, &half{srcPort: 2, dstPort: 1}
			for _, f := range c.frames {
				require.NoError(t, w.add(0, 0, initiator, f))
			}
			require.NoError(t, w.add(0, 1, responder, c.answer))
			file := filepath.Join(t.TempDir(), "pcap")
			require.NoError(t, os.WriteFile(file, w.Bytes(), 0o600))
			found, err := dissect(file, expected{2: c.session})
			if c.wrong == "" {
				require.NoError(t, err)
				require.Equal(t, dissected{Captures: 1, Sessions: 1, FPDUs: 1, Good: 1}, found)
				return
			}
			require.ErrorContains(t, err, c.wrong)
		})
	}
}
