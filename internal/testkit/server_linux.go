package testkit

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A Server is a program of others, such as Debian has in a package.
type Server struct {
	Binary string // or a pattern, of which the last file counts
	User   string // empty means root
	Prep   func(t *testing.T, r *Served)
	Args   func(r *Served) []string  // with which it stays in the foreground
	Ready  func(r *Served) *exec.Cmd // succeeds once it serves; nil means that it does as soon as it listens
	Shown  bool                      // what it says, also where the test has not failed
}

// Served is a server that runs: its folder, which is empty at first, binary and port.
type Served struct {
	Dir, Binary, Port string

	attr *syscall.SysProcAttr
}

// Path returns the path of a file in the folder.
func (r *Served) Path(name string) string { return filepath.Join(r.Dir, name) }

// Write writes a file in the folder.
func (r *Served) Write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(r.Path(name), []byte(text), 0o644))
}

// Do runs a program as the server's user, in its folder.
func (r *Served) Do(t *testing.T, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir, c.SysProcAttr = r.Dir, r.attr
	out, err := c.CombinedOutput()
	require.NoErrorf(t, err, "%s: %s", name, out)
}

// Start has the server serve the port of 127.0.0.1, until the end of the test. It skips the test
// where the server is not to be had, or cannot be started as its user. patience is for its start,
// and for its end.
func (s *Server) Start(t *testing.T, port string, patience time.Duration) *Served {
	t.Helper()
	r := &Served{Binary: s.find(t), Port: port, attr: s.become(t)}
	var err error
	r.Dir, err = os.MkdirTemp("", "") // which others than root get into, too
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(r.Dir) })
	if s.User != "" {
		require.NoError(t, os.Chown(r.Dir, int(r.attr.Credential.Uid), int(r.attr.Credential.Gid)))
	}
	if s.Prep != nil {
		s.Prep(t, r)
	}
	s.await(t, r, s.run(t, r, patience), patience)
	return r
}

// run starts the process, which ends with the test, and returns what is closed once it has ended.
func (s *Server) run(t *testing.T, r *Served, patience time.Duration) (ended <-chan struct{}) {
	var log bytes.Buffer
	c := exec.Command(r.Binary, s.Args(r)...)
	c.Dir, c.SysProcAttr, c.Stdout, c.Stderr, c.WaitDelay = r.Dir, r.attr, &log, &log, time.Second
	require.NoError(t, c.Start())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(patience):
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			<-done
		}
		if t.Failed() || s.Shown {
			t.Logf("%s", log.String())
		}
	})
	return done
}

func (s *Server) await(t *testing.T, r *Served, ended <-chan struct{}, patience time.Duration) {
	for limit := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", r.Port))
		if err == nil {
			_ = c.Close()
			if s.Ready == nil || s.Ready(r).Run() == nil {
				return
			}
		}
		select {
		case <-ended:
			t.Fatal("it has ended")
		default:
		}
		require.True(t, time.Now().Before(limit), "it does not listen")
	}
}

// find returns the binary, which is often in a folder that is none of PATH.
func (s *Server) find(t *testing.T) string {
	t.Helper()
	for _, dir := range append([]string{""}, strings.Split(os.Getenv("PATH")+":/usr/sbin:/sbin", ":")...) {
		if list, _ := filepath.Glob(filepath.Join(dir, s.Binary)); len(list) > 0 && filepath.IsAbs(list[0]) {
			return list[len(list)-1]
		}
	}
	t.Skipf("no %s; install its Debian package", s.Binary)
	return ""
}

// become returns what has a process be of a group of its own, and the server's user.
func (s *Server) become(t *testing.T) *syscall.SysProcAttr {
	t.Helper()
	attr := &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() != 0 {
		t.Skip("servers are started as users of their own, by root")
	}
	if s.User == "" {
		return attr
	}
	u, err := user.Lookup(s.User)
	if err != nil {
		t.Skipf("no user %s", s.User)
	}
	uid, err := strconv.Atoi(u.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(u.Gid)
	require.NoError(t, err)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr
}
