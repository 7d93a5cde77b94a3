package pcapng

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/debug"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

const secret = "a secret of the application"

// recorded returns the files that the page has of both ends of a connection, which has sent this
// and that, and on which a peer has lost patience at last.
func recorded(t *testing.T, network, host string, noCRC, payload bool) (files [2][]byte) {
	with := []transport.Transport{soft.New(&soft.Config{NoCRC: noCRC, AlwaysCRC: !noCRC})}
	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire, Transports: with}).Listen(t.Context(), network, net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	client, err := (&iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: with}).Dial(network, l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	server := <-accepted
	require.NotNil(t, server)
	defer server.Close()
	h := debug.Handler()
	form := url.Values{"frames": {"10000"}}
	if payload {
		h = debug.HandlerWithPayload()
		form.Set("payload", "1")
	}
	var pages [2]string
	for i, c := range []net.Conn{client, server} {
		pages[i] = "/?" + url.Values{"local": {c.LocalAddr().String()}, "remote": {c.RemoteAddr().String()}}.Encode()
		r := httptest.NewRequest(http.MethodPost, pages[i], strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusSeeOther, w.Code, w.Body)
	}
	for _, n := range []int{1, 100, 5000, 300_000} {
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			sent := make(chan error, 1)
			go func() {
				_, err := way[0].Write(bytes.Repeat([]byte(secret), n/len(secret)+1)[:n])
				sent <- err
			}()
			_, err := io.ReadFull(way[1], make([]byte, n))
			require.NoError(t, err)
			require.NoError(t, <-sent)
		}
	}
	require.NoError(t, client.(*rdmanet.Conn).CloseWrite())
	_, err = server.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, server.Close())
	require.NoError(t, client.Close())
	for i, page := range pages {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, page+"&pcapng", nil))
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.Regexp(t, `^attachment; filename="iwarp-[0-9a-z._-]+\.pcapng"$`, w.Header().Get("Content-Disposition"))
		files[i] = w.Body.Bytes()
	}
	return files
}

// A trace is a file that the library reads, with the true addresses and numbers that run on.
func TestFile(t *testing.T) {
	for i, file := range recorded(t, "tcp4", "127.0.0.1", false, false) {
		require.NotContains(t, string(file), secret[:8])
		r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
		require.NoError(t, err)
		require.Contains(t, r.SectionInfo().Comment, "made up")
		next := make(map[layers.TCPPort]uint32)
		packets := 0
		var before time.Time
		for {
			data, ci, err := r.ReadPacketData()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.False(t, ci.Timestamp.Before(before))
			before = ci.Timestamp
			p := gopacket.NewPacket(data, layers.LayerTypeIPv4, gopacket.Default)
			tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
			require.True(t, ok)
			if from, known := next[tcp.SrcPort]; known {
				require.Equal(t, from, tcp.Seq)
			}
			require.Contains(t, []uint32{0, 1, tcp.Ack}, next[tcp.DstPort])
			next[tcp.SrcPort] = tcp.Seq + uint32(len(data)-40)
			packets++
		}
		require.Greater(t, packets, 10, i)
	}
}

var seen = regexp.MustCompile(`OpCode: ([A-Z][A-Za-z ]+) \(`)

// Wireshark's dissectors read what the page hands out: every frame is well-formed, and has a good
// CRC where there are CRCs.
func TestDissectors(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed")
	}
	for _, c := range []struct {
		name, network, host string
		noCRC, payload      bool
		ends                int
	}{
		{"headers", "tcp4", "127.0.0.1", false, false, 2},
		{"payload", "tcp4", "127.0.0.1", false, true, 1},
		{"ipv6", "tcp6", "::1", false, false, 1},
		{"no crc", "tcp4", "127.0.0.1", true, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := recorded(t, c.network, c.host, c.noCRC, c.payload)
			for _, file := range files[:c.ends] {
				name := filepath.Join(t.TempDir(), "trace.pcapng")
				require.NoError(t, os.WriteFile(name, file, 0o600))
				require.Empty(t, tshark(t, name, "-Y", "_ws.malformed || _ws.short || _ws.expert.severity == error || tcp.analysis.flags"))
				text := tshark(t, name, "-V", "-O", "iwarp_mpa,iwarp_ddp_rdmap")
				frames := strings.Split(strings.TrimSpace(text), "\n\n")
				require.Contains(t, frames[0], "Request frame header")
				require.Contains(t, frames[1], "Reply frame header")
				ops := make(map[string]int)
				for _, f := range frames[2:] {
					m := seen.FindStringSubmatch(f)
					require.NotNil(t, m, f)
					ops[m[1]]++
					require.Equal(t, !c.noCRC, strings.Contains(f, "(Good CRC32)"), f)
				}
				require.Greater(t, ops["Write"], 10)
				require.Positive(t, ops["Send"])
				require.Len(t, ops, 2)
			}
		})
	}
}

// tshark runs it. rpcordma claims some short Sends for itself.
func tshark(t *testing.T, file string, args ...string) string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "tshark", append([]string{"-n", "--disable-protocol", "rpcordma", "-o", "tcp.try_heuristic_first:TRUE", "-r", file}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}
