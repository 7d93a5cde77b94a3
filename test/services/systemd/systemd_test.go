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
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/services/load"
)

const (
	restarts = 20
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
			for name, serving := range map[string]int{"one after the other": 0, "overlapping": 1, "two at once": 2} {
				t.Run(name, func(t *testing.T) { restart(t, command(t), serving) })
			}
		})
	}
}

// restart has that many processes serve while one of them is started.
func restart(t *testing.T, command []string, serving int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()

	seen := make(chan int) // the processes that answer
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
	var running []*process // the oldest first
	begin := func() {
		p := start(t, command, socket)
		running = append(running, p)
		if serving > 0 {
			p.serves(t, l.Addr())
		}
	}
	end := func() {
		running[0].end(t)
		running = running[1:]
	}
	for range max(serving, 1) {
		begin()
	}
	for n := 1; n <= restarts; n++ {
		clients.Await(t, n*requests/(restarts+1))
		if serving == 0 {
			end()
			begin()
		} else {
			begin()
			end()
		}
		silent := make(map[int]bool)
		for _, p := range running {
			silent[p.Process.Pid] = true
		}
		for len(silent) > 0 {
			select {
			case pid := <-seen:
				delete(silent, pid)
			case <-time.After(load.Patience):
				require.Empty(t, silent, "processes that answer nobody")
			}
		}
	}
	clients.Await(t, requests)
	clients.Stop()
	clients.Check(t)
	for len(running) > 0 {
		end()
	}
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
