package firstdial

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

var logs = flag.Bool("logs", false, "show what servers log, of all rounds and of their start and end")

var rounds = flag.Int("rounds", 3, "how many first dials are made to each server")

// patience bounds what a test waits for.
const patience = 30 * time.Second

// A server is started in an empty folder, for all addresses of the host at the port.
type server struct {
	name   string
	binary string                             // or a pattern
	user   string                             // empty means root
	prep   func(t *testing.T, r *run)         // nil means that nothing is to be done before
	args   func(r *run) []string              // with which it stays in the foreground
	serve  func(t *testing.T, l net.Listener) // in place of a binary
	reason iwarp.Reason                       // why the dial falls back
	works  func(t *testing.T, c net.Conn)     // uses the connection
}

// run is a server's: its folder, port and binary.
type run struct {
	dir, binary string
	port        int
	attr        *syscall.SysProcAttr
}

func (r *run) path(name string) string { return filepath.Join(r.dir, name) }

func (r *run) write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(r.path(name), []byte(text), 0o644))
}

func (r *run) do(t *testing.T, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir, c.SysProcAttr = r.dir, r.attr
	out, err := c.CombinedOutput()
	require.NoErrorf(t, err, "%s: %s", name, out)
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
	{name: "nginx", binary: "nginx", reason: iwarp.ReasonNotIWARP, works: greets(getRequest, "HTTP/1.1 "),
		prep: func(t *testing.T, r *run) {
			r.write(t, "conf", fmt.Sprintf(`daemon off; master_process off; user root; pid %[1]s/pid; error_log stderr;
events {} http { access_log /dev/stderr; client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3;
uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5; server { listen %[2]d; } }`, r.dir, r.port))
		}, args: func(r *run) []string { return []string{"-c", r.path("conf"), "-e", "stderr"} }},
	{name: "Redis", binary: "redis-server", reason: iwarp.ReasonHandshakeTimeout, works: greets("PING\r\n", "+PONG\r\n"),
		args: func(r *run) []string {
			return []string{"--port", strconv.Itoa(r.port), "--save", "", "--dir", r.dir, "--protected-mode", "no"}
		}},
	{name: "memcached", binary: "memcached", reason: iwarp.ReasonNotIWARP, works: greets("version\r\n", "VERSION "),
		args: func(r *run) []string { return []string{"-u", "root", "-p", strconv.Itoa(r.port)} }},
	{name: "PostgreSQL", binary: "/usr/lib/postgresql/*/bin/postgres", user: "postgres", reason: iwarp.ReasonNotIWARP,
		works: greets("\x00\x00\x00\x08\x04\xd2\x16\x2f", "N"), // SSLRequest
		prep: func(t *testing.T, r *run) {
			r.do(t, filepath.Join(filepath.Dir(r.binary), "initdb"), "-D", r.path("data"), "-A", "trust", "--no-sync")
		}, args: func(r *run) []string {
			return []string{"-D", r.path("data"), "-p", strconv.Itoa(r.port), "-h", "0.0.0.0", "-k", r.dir}
		}},
	{name: "MariaDB", binary: "mariadbd", user: "mysql", reason: iwarp.ReasonNotIWARP, works: func(t *testing.T, c net.Conn) {
		_, err := io.ReadFull(c, make([]byte, 5))
		require.NoError(t, err)
	},
		prep: func(t *testing.T, r *run) {
			r.do(t, "mariadb-install-db", "--no-defaults", "--datadir="+r.path("data"), "--skip-test-db", "--auth-root-authentication-method=normal")
		}, args: func(r *run) []string {
			// Each request counts as an error of the host; after 100 in a row it would be blocked.
			return []string{"--no-defaults", "--datadir=" + r.path("data"), "--port=" + strconv.Itoa(r.port), "--socket=" + r.path("socket"), "--skip-name-resolve",
				"--pid-file=" + r.path("pid"), "--max-connect-errors=1000000"}
		}},
	{name: "NATS", binary: "nats-server", reason: iwarp.ReasonNotIWARP, works: says("INFO {"),
		args: func(r *run) []string { return []string{"-a", "0.0.0.0", "-p", strconv.Itoa(r.port)} }},
	{name: "OpenSMTPD", binary: "smtpd", reason: iwarp.ReasonNotIWARP, works: says("220 "),
		prep: func(t *testing.T, r *run) {
			r.write(t, "conf", fmt.Sprintf("listen on 0.0.0.0 port %d\naction a relay\nmatch from any for any reject\n", r.port))
		}, args: func(r *run) []string { return []string{"-d", "-f", r.path("conf")} }},
	{name: "OpenSSH", binary: "sshd", reason: iwarp.ReasonNotIWARP, works: says("SSH-2.0-"),
		prep: func(t *testing.T, r *run) {
			r.do(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", r.path("key"))
			require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
		}, args: func(r *run) []string {
			return []string{"-D", "-e", "-f", "/dev/null", "-h", r.path("key"), "-p", strconv.Itoa(r.port), "-o", "PidFile=none", "-o", "MaxStartups=1000"}
		}},
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
	r := &run{dir: t.TempDir(), binary: s.find(t), port: port, attr: s.become(t)}
	if s.user != "" {
		require.NoError(t, os.Chmod(filepath.Dir(r.dir), 0o755))
		require.NoError(t, os.Chown(r.dir, int(r.attr.Credential.Uid), int(r.attr.Credential.Gid)))
	}
	if s.prep != nil {
		s.prep(t, r)
	}
	var log bytes.Buffer
	c := exec.Command(r.binary, s.args(r)...)
	c.Dir, c.SysProcAttr, c.Stdout, c.Stderr, c.WaitDelay = r.dir, r.attr, &log, &log, time.Second
	require.NoError(t, c.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		if t.Failed() || *logs {
			t.Logf("%s", log.String())
		}
	})
	for limit := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		d, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = d.Close()
			return port
		}
		select {
		case <-ended:
			t.Fatalf("it has ended: %s", log.String())
		default:
		}
		require.True(t, time.Now().Before(limit), "it does not listen")
	}
}

// find returns the binary, which is often in a folder that is none of PATH.
func (s *server) find(t *testing.T) string {
	t.Helper()
	for _, dir := range append([]string{""}, strings.Split(os.Getenv("PATH")+":/usr/sbin:/sbin", ":")...) {
		if list, _ := filepath.Glob(filepath.Join(dir, s.binary)); len(list) > 0 && filepath.IsAbs(list[0]) {
			return list[len(list)-1]
		}
	}
	t.Skipf("no %s; install its Debian package", s.binary)
	return ""
}

// become returns what has a process be of a group of its own, and the server's user.
func (s *server) become(t *testing.T) *syscall.SysProcAttr {
	t.Helper()
	attr := &syscall.SysProcAttr{Setpgid: true}
	if s.user == "" {
		return attr
	}
	u, err := user.Lookup(s.user)
	if err != nil {
		t.Skipf("no user %s", s.user)
	}
	uid, err := strconv.Atoi(u.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(u.Gid)
	require.NoError(t, err)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr
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
