//go:build linux

package kernel

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Wireshark's dissectors read what two ends of ours say to each other over loopback: every frame is
// well-formed, every CRC good.
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
		last, limit := "", time.Now().Add(cellLimit)
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
