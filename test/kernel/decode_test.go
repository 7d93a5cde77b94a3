//go:build linux

package kernel

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Wireshark's dissectors read what two ends of ours say to each other over loopback: every frame is well-formed, every CRC good.
func TestDecode(t *testing.T) {
	needs(t)
	host, err := theHost()
	require.NoError(t, err)
	for _, c := range []struct {
		name           string
		server, client []string
		crc            bool
		sees           []string
	}{
		{name: "rping", server: []string{"go-rping", "-S", "20000", "-s", "-a"}, client: []string{"go-rping", "-c", "-V", "-C", "20", "-S", "20000", "-a"},
			crc: true, sees: []string{"Send", "Read Request", "Read Response", "Write"}},
		{name: "rping/invalidate", server: []string{"go-rping", "-i", "-s", "-a"}, client: []string{"go-rping", "-i", "-c", "-V", "-C", "3", "-a"},
			crc: true, sees: []string{"Send", "Send with Invalidate", "Read Request", "Read Response", "Write"}},
		{name: "rping/nocrc", server: []string{"go-rping", "-crc=false", "-s", "-a"}, client: []string{"go-rping", "-crc=false", "-c", "-V", "-C", "3", "-a"},
			sees: []string{"Send", "Read Request", "Read Response", "Write"}},
		{name: "rstream", server: []string{"go-rstream", "-verify", "-S", "5000", "-C", "50", "-b"}, client: []string{"go-rstream", "-first", "-verify", "-S", "5000", "-C", "50", "-s"},
			crc: true, sees: []string{"Send", "Write"}},
		{name: "rstream/large", server: []string{"go-rstream", "-verify", "-S", "50000", "-C", "1", "-I", "20", "-b"}, client: []string{"go-rstream", "-first", "-verify", "-S", "50000", "-C", "1", "-I", "20", "-s"},
			crc: true, sees: []string{"Send", "Write"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ports, err := freePorts(1)
			require.NoError(t, err)
			where := []string{"127.0.0.1", "-p", strconv.Itoa(ports[0])}
			pcap := filepath.Join(t.TempDir(), "session.pcap")
			stop := capture(t, host, pcap, ports[0])
			server := host.start(t, append(c.server, where...)...)
			require.NoError(t, server.WaitOutput("listening on"))
			host.run(t, append(c.client, where...)...)
			succeeds(t, server)
			stop()
			found, err := dissect(pcap, expected{ports[0]: {crc: c.crc, sees: c.sees}})
			require.NoError(t, err)
			decoded.add(found)
		})
	}
}

// capture writes what passes the port on loopback to a file, until stop is called.
func capture(t *testing.T, host *place, file string, port int) (stop func()) {
	tcpdump, err := exec.LookPath("tcpdump")
	require.NoError(t, err)
	p := host.start(t, tcpdump, "-i", "lo", "-n", "-Z", "root", "-U", "--immediate-mode", "-B", "65536", "-s", "0", "-w", file, "tcp", "port", strconv.Itoa(port))
	require.NoError(t, p.WaitOutput("listening on"))
	return func() {
		// The last frames are on their way to the file for a moment.
		last, limit := "", time.Now().Add(10*time.Second)
		for tick := time.NewTicker(200 * time.Millisecond); ; <-tick.C {
			require.True(t, time.Now().Before(limit), "no end of the connection in the capture")
			now, err := tshark(file, "-Y", "tcp.flags.fin == 1 || tcp.flags.reset == 1", "-T", "fields", "-e", "tcp.srcport")
			require.NoError(t, err)
			if now != "" && now == last {
				break
			}
			last = now
		}
		require.NoError(t, p.Signal(sigint))
		succeeds(t, p)
		require.Contains(t, p.Stderr(), "0 packets dropped by kernel")
	}
}

// What is wrong in a capture is found.
func TestDissect(t *testing.T) {
	needs(t)
	request := func(private int) []byte {
		b := append([]byte(mpaRequest), 0x40, 2, 0, byte(private))
		return append(b, make([]byte, private)...)
	}
	reply := append([]byte(mpaReply), 0x40, 2, 0, 0)
	// A Send of nothing: length, DDP and RDMAP control, queue 0, message 1, offset 0.
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
