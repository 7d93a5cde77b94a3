// Package systemd restarts examples/restart as systemd does, which holds the socket and passes it
// to each process of the service.
package systemd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/services/load"
)

const (
	restarts = 4
	requests = 2000
)

// activate starts a program with descriptor 3 as systemd passes it: LISTEN_PID is its own.
const activate = `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec "$@"`

// TestRestart replaces the process under load: no request fails.
func TestRestart(t *testing.T) {
	program := build(t)
	starters := map[string]func(*testing.T) []string{
		"played": func(*testing.T) []string { return []string{program} },
		"systemd-socket-activate": func(t *testing.T) []string {
			path, err := exec.LookPath("systemd-socket-activate")
			if errors.Is(err, exec.ErrNotFound) {
				t.Skip("systemd is not installed")
			}
			require.NoError(t, err)
			return []string{path, program}
		},
	}
	for name, command := range starters {
		t.Run(name, func(t *testing.T) {
			for _, overlap := range []bool{false, true} {
				t.Run(map[bool]string{false: "one after the other", true: "overlapping"}[overlap], func(t *testing.T) {
					restart(t, command(t), overlap)
				})
			}
		})
	}
}

func restart(t *testing.T, command []string, overlap bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()

	seen := make(chan int, 1) // the process that answered last
	clients := load.Start(l.Addr().String(), func(said string) error {
		var pid int
		if _, err := fmt.Sscanf(said, "process %d, whole", &pid); err != nil {
			return fmt.Errorf("answer is %q", said)
		}
		select {
		case seen <- pid:
		default:
		}
		return nil
	})
	defer clients.Stop()
	p := start(t, command, socket)
	for n := 1; n <= restarts; n++ {
		clients.Await(t, n*requests/(restarts+1))
		if overlap {
			next := start(t, command, socket)
			next.serves(t, l.Addr())
			p.end(t)
			p = next
		} else {
			p.end(t)
			p = start(t, command, socket)
		}
		<-seen
		for pid := range seen {
			if pid == p.Process.Pid {
				break
			}
		}
	}
	clients.Await(t, requests)
	clients.Stop()
	clients.Check(t)
	p.end(t)
}

// process is one of the service.
type process struct {
	*exec.Cmd
	out io.ReadCloser
}

func start(t *testing.T, command []string, socket *os.File) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("sh", append([]string{"-c", activate, "sh"}, command...)...)}
	p.ExtraFiles = []*os.File{socket}
	p.Env = append(os.Environ(), "IWARP_OFFLOAD=", "IWARP_LISTEN_OFFLOAD=")
	var said bytes.Buffer
	p.Stderr = &said
	var err error
	p.out, err = p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
			t.Log(said.String())
		}
	})
	return p
}

// serves waits until the process says that it does.
func (p *process) serves(t *testing.T, at net.Addr) {
	t.Helper()
	said, err := bufio.NewReader(p.out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("process %d serves on %v", p.Process.Pid, at), strings.TrimSpace(said))
}

// end is what systemctl stop does.
func (p *process) end(t *testing.T) {
	t.Helper()
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.Wait(), "it ends in order")
}

// build returns the program.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "restart")
	c := exec.Command("go", "build", "-o", path, "./restart")
	c.Dir = filepath.Join("..", "..", "..", "examples")
	out, err := c.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}
