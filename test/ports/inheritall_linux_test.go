package ports_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

func init() { processes["heir"] = runHeir }

// runHeir says what it inherits, as often as IWARP_TEST_TIMES has a word: "full" is a call without
// a free descriptor.
func runHeir() int {
	_, _ = os.ReadFile("/proc/self/comm") // so that Go's poller has the descriptors that it needs
	ps := &iwarp.PortSpace{}
	for _, how := range strings.Fields(os.Getenv("IWARP_TEST_TIMES")) {
		var limit syscall.Rlimit
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
		if how == "full" {
			_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: limit.Max})
		}
		list, err := ps.Inherit()
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
		fmt.Println(how+":", len(list), "ports", err)
	}
	for _, info := range ps.Reservations() {
		fmt.Println("port", info.Owner, info.State)
	}
	for _, f := range ps.InheritedFiles() {
		fmt.Println("file", f.Name())
	}
	fmt.Println("more files", len(ps.InheritedFiles()))
	for fd := 3; ; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil {
			break
		}
		if _, err := unix.Getsockname(fd); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fmt.Println("descriptor", fd, "is left to programs")
		}
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") {
			fmt.Println("left", v)
		}
	}
	return 0
}

// TestInheritIsComplete takes all sockets that systemd passes or none, and loses none of them.
func TestInheritIsComplete(t *testing.T) {
	type file interface{ File() (*os.File, error) }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	tcp := l.(*net.TCPListener)
	idle := reserve(t, nil, "tcp", "127.0.0.1:0")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer udp.Close()
	connected := dialTCP(t, tcp)
	local, err := net.Listen("unix", t.TempDir()+"/socket")
	require.NoError(t, err)
	defer local.Close()
	pipe, w, err := os.Pipe()
	require.NoError(t, err)
	defer pipe.Close()
	defer w.Close()

	nothing := []string{"more files 0"}
	for name, test := range map[string]struct {
		sockets []file
		pipe    bool
		env     []string
		times   string
		says    []string
	}{
		"full": {
			[]file{tcp, idle}, false, []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=web:spare"}, "full again",
			[]string{"full: 2 ports <nil>", "again: 0 ports <nil>", "port spare idle", "port web listening", "more files 0"},
		},
		"other kinds": {
			[]file{udp.(*net.UDPConn), tcp, connected, local.(*net.UnixListener)}, true,
			[]string{"LISTEN_FDS=5", "LISTEN_FDNAMES=dns:web::admin:logs", "LISTEN_PIDFDID=7"}, "once",
			[]string{"once: 1 ports <nil>", "port web listening", "file dns", "file LISTEN_FD_5", "file admin", "file logs", "more files 0"},
		},
		"nobody says how many": {nil, false, nil, "once", append([]string{"once: 0 ports <nil>"}, nothing...)},
		"an empty number":      {nil, false, []string{"LISTEN_FDS="}, "once", append([]string{"once: 0 ports <nil>"}, nothing...)},
		"less than is said": {
			[]file{tcp}, false, []string{"LISTEN_FDS=40"}, "once again",
			[]string{
				"once: 0 ports inherit tcp: descriptor N of LISTEN_FDS: fcntl: bad file descriptor",
				"again: 0 ports inherit tcp: descriptor N of LISTEN_FDS: fcntl: bad file descriptor", "more files 0",
				"left LISTEN_FDS=40", "left LISTEN_PID",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var files []*os.File
			for _, s := range test.sockets {
				f, err := s.File()
				require.NoError(t, err)
				defer f.Close()
				files = append(files, f)
			}
			if test.pipe {
				files = append(files, pipe)
			}
			c := command(t, "heir", append(test.env, "IWARP_TEST_TIMES="+test.times)...)
			c.Args = []string{"sh", "-c", `LISTEN_PID=$$ exec "$0"`, c.Path}
			c.Path, err = exec.LookPath("sh")
			require.NoError(t, err)
			c.ExtraFiles = files
			out, err := c.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, c.Start())
			b, err := io.ReadAll(out)
			require.NoError(t, err)
			require.NoError(t, c.Wait())
			said := strings.ReplaceAll(string(b), "LISTEN_PID="+strconv.Itoa(c.Process.Pid), "LISTEN_PID")
			said = regexp.MustCompile(`descriptor \d+ of`).ReplaceAllString(said, "descriptor N of")
			require.ElementsMatch(t, test.says, strings.Split(strings.TrimSpace(said), "\n"))
		})
	}
}
