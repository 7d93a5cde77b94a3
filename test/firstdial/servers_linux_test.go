package firstdial

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
)

var logs = flag.Bool("logs", false, "show what servers log, of all rounds and of their start and end")

var rounds = flag.Int("rounds", 3, "how many first dials are made to each server")

// patience bounds what a test waits for.
const patience = 30 * time.Second

// A server is for all addresses of the host at its port.
type server struct {
	name string
	testkit.Server
	serve  func(t *testing.T, l net.Listener) // in place of a binary
	reason iwarp.Reason                       // why the dial falls back
	works  func(t *testing.T, c net.Conn)     // uses the connection
}

// says has the peer begin, greets wants an answer to what is written.
func says(prefix string) func(*testing.T, net.Conn) { return greets("", prefix) }

func greets(text, prefix string) func(*testing.T, net.Conn) {
	return func(t *testing.T, c net.Conn) {
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
		got := make([]byte, len(prefix))
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, prefix, string(got))
	}
}

const getRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

var serversUnderTest = []server{
	{name: "net/http", reason: iwarp.ReasonNotIWARP, works: greets(getRequest, "HTTP/1.1 "), serve: func(_ *testing.T, l net.Listener) {
		_ = http.Serve(l, http.NotFoundHandler())
	}},
	{name: "net/http h2c", reason: iwarp.ReasonNotIWARP, works: greets("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00"),
		serve: func(_ *testing.T, l net.Listener) {
			s := http.Server{Protocols: new(http.Protocols)}
			s.Protocols.SetUnencryptedHTTP2(true)
			_ = s.Serve(l)
		}},
	{name: "nginx", reason: iwarp.ReasonNotIWARP, works: greets(getRequest, "HTTP/1.1 "), Server: testkit.Server{Binary: "nginx",
		Prep: func(t *testing.T, r *testkit.Served) {
			r.Write(t, "conf", fmt.Sprintf(`daemon off; master_process off; user root; pid %[1]s/pid; error_log stderr;
events {} http { access_log /dev/stderr; client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3;
uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5; server { listen %[2]s; } }`, r.Dir, r.Port))
		}, Args: func(r *testkit.Served) []string { return []string{"-c", r.Path("conf"), "-e", "stderr"} }}},
	{name: "Redis", reason: iwarp.ReasonHandshakeTimeout, works: greets("PING\r\n", "+PONG\r\n"), Server: testkit.Server{Binary: "redis-server",
		Args: func(r *testkit.Served) []string {
			return []string{"--port", r.Port, "--save", "", "--dir", r.Dir, "--protected-mode", "no"}
		}}},
	{name: "memcached", reason: iwarp.ReasonNotIWARP, works: greets("version\r\n", "VERSION "), Server: testkit.Server{Binary: "memcached",
		Args: func(r *testkit.Served) []string { return []string{"-u", "root", "-p", r.Port} }}},
	{name: "PostgreSQL", reason: iwarp.ReasonNotIWARP,
		works: greets("\x00\x00\x00\x08\x04\xd2\x16\x2f", "N"), // SSLRequest
		Server: testkit.Server{Binary: "/usr/lib/postgresql/*/bin/postgres", User: "postgres", Prep: func(t *testing.T, r *testkit.Served) {
			r.Do(t, filepath.Join(filepath.Dir(r.Binary), "initdb"), "-D", r.Path("data"), "-A", "trust", "--no-sync")
		}, Args: func(r *testkit.Served) []string {
			return []string{"-D", r.Path("data"), "-p", r.Port, "-h", "0.0.0.0", "-k", r.Dir}
		}}},
	{name: "MariaDB", reason: iwarp.ReasonNotIWARP, works: func(t *testing.T, c net.Conn) {
		_, err := io.ReadFull(c, make([]byte, 5))
		require.NoError(t, err)
	}, Server: testkit.Server{Binary: "mariadbd", User: "mysql",
		Prep: func(t *testing.T, r *testkit.Served) {
			r.Do(t, "mariadb-install-db", "--no-defaults", "--force", "--datadir="+r.Path("data"), "--skip-test-db", "--auth-root-authentication-method=normal")
		}, Args: func(r *testkit.Served) []string {
			// Each request counts as an error of the host; after 100 in a row it would be blocked.
			return []string{"--no-defaults", "--datadir=" + r.Path("data"), "--port=" + r.Port, "--socket=" + r.Path("socket"), "--skip-name-resolve",
				"--pid-file=" + r.Path("pid"), "--max-connect-errors=1000000"}
		}}},
	{name: "NATS", reason: iwarp.ReasonNotIWARP, works: says("INFO {"), Server: testkit.Server{Binary: "nats-server",
		Args: func(r *testkit.Served) []string { return []string{"-a", "0.0.0.0", "-p", r.Port} }}},
	{name: "OpenSMTPD", reason: iwarp.ReasonNotIWARP, works: says("220 "), Server: testkit.Server{Binary: "smtpd",
		Prep: func(t *testing.T, r *testkit.Served) {
			r.Write(t, "conf", fmt.Sprintf("listen on 0.0.0.0 port %s\naction a relay\nmatch from any for any reject\n", r.Port))
		}, Args: func(r *testkit.Served) []string { return []string{"-d", "-f", r.Path("conf")} }}},
	{name: "OpenSSH", reason: iwarp.ReasonNotIWARP, works: says("SSH-2.0-"), Server: testkit.Server{Binary: "sshd",
		Prep: func(t *testing.T, r *testkit.Served) {
			r.Do(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", r.Path("key"))
			require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
		}, Args: func(r *testkit.Served) []string {
			return []string{"-D", "-e", "-f", "/dev/null", "-h", r.Path("key"), "-p", r.Port, "-o", "PidFile=none", "-o", "MaxStartups=1000"}
		}}},
}

// TestFirstDial reaches each server by plain TCP, and says what the first dial and a later one
// cost, as medians of several rounds:
//
//	go test ./test/firstdial -run FirstDial -v -rounds=101
func TestFirstDial(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for i, s := range serversUnderTest {
		t.Run(s.name, func(t *testing.T) {
			port := s.start(t)
			var plain, first, later []time.Duration
			d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, Timeout: 2 * patience}
			if s.reason != iwarp.ReasonHandshakeTimeout {
				d.HandshakeTimeout = patience // it does answer, however busy the machine is
			}
			for n := range *rounds {
				// An address of which nothing is known yet.
				addr := net.JoinHostPort(fmt.Sprintf("127.%d.%d.%d", 1+i, n>>8, 1+n&127), strconv.Itoa(port))
				dial := func(took *[]time.Duration, f func(network, address string) (net.Conn, error)) net.Conn {
					began := time.Now()
					c, err := f("tcp", addr)
					*took = append(*took, time.Since(began))
					require.NoError(t, err)
					t.Cleanup(func() { _ = c.Close() })
					return c
				}
				_ = dial(&plain, net.Dial).Close()
				c := dial(&first, d.Dial)
				require.IsType(t, (*net.TCPConn)(nil), c)
				info, _ := iwarp.Describe(c)
				require.Equal(t, s.reason, info.Reason, "%v", info.Err)
				require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
				s.works(t, c)
				_ = c.Close()
				_ = dial(&later, d.Dial).Close()
			}
			t.Logf("%-14s net.Dial %7.2f ms, first %7.2f ms, later %7.2f ms", s.name, ms(plain), ms(first), ms(later))
		})
	}
}

func ms(d []time.Duration) float64 {
	slices.Sort(d)
	return d[len(d)/2].Seconds() * 1000
}

// start starts the server until the end of the test, and returns its port.
func (s *server) start(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp4", ":0")
	require.NoError(t, err)
	port = l.Addr().(*net.TCPAddr).Port
	if s.serve != nil {
		done := make(chan struct{})
		go func() { defer close(done); s.serve(t, l) }()
		t.Cleanup(func() { _ = l.Close(); <-done })
		return port
	}
	require.NoError(t, l.Close())
	s.Shown = *logs
	s.Start(t, strconv.Itoa(port), patience)
	return port
}

const namespaceVariable = "IWARP_TEST_NAMESPACE"

// inNamespace has the test run in a process of its own, in a network namespace in which only lo is
// up. It returns true there.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) != "" {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(s)
		lo, err := unix.NewIfreq("lo")
		require.NoError(t, err)
		lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		require.NoError(t, unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo))
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("servers are started as users of their own, for which it takes root")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m", "-rounds="+strconv.Itoa(*rounds), "-services="+strconv.Itoa(*services), "-logs="+strconv.FormatBool(*logs))
	c.Env = append(os.Environ(), namespaceVariable+"=1", "IWARP_OFFLOAD=")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	out, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		t.Skip(err)
	}
	require.NoErrorf(t, err, "%s", out)
	t.Logf("in a network namespace:\n%s", out)
	return false
}
