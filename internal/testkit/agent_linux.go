package testkit

import (
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// An Order is what an agent must do with a socket; the steps are done in this order.
type Order struct {
	Close     bool   // all sockets that the agent has, before anything else
	Addr      string // the family is that of the address
	Port      int
	V6Only    bool
	ReuseAddr bool
	ReusePort bool
	Device    string
	NoBind    bool
	Clear     bool // SO_REUSEADDR, after the bind
	Listen    bool
	Set       bool   // SO_REUSEADDR, after the listen
	Connect   string // where to
}

type outcome struct {
	Port  int
	Errno syscall.Errno
}

// Do carries the order out. The socket is the caller's if there is no error.
func (o Order) Do() (fd int, port int, err error) {
	at := netip.AddrPortFrom(netip.MustParseAddr(o.Addr), uint16(o.Port))
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	option := func(wanted bool, level, option, value int) {
		if wanted && err == nil {
			err = unix.SetsockoptInt(fd, level, option, value)
		}
	}
	only := 0
	if o.V6Only {
		only = 1
	}
	option(family == unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	option(o.ReuseAddr, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	option(o.ReusePort, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if o.Device != "" && err == nil {
		err = unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, o.Device)
	}
	if !o.NoBind && err == nil {
		err = unix.Bind(fd, Sockaddr(at))
	}
	option(o.Clear, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
	if o.Listen && err == nil {
		err = unix.Listen(fd, 16)
	}
	option(o.Set, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if o.Connect != "" && err == nil {
		err = unix.Connect(fd, Sockaddr(netip.MustParseAddrPort(o.Connect)))
	}
	if err != nil {
		return -1, 0, err
	}
	sa, err := unix.Getsockname(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		port = sa.Port
	case *unix.SockaddrInet6:
		port = sa.Port
	}
	return fd, port, err
}

// Sockaddr returns the address for a system call.
func Sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func init() { Processes["agent"] = runAgent }

// runAgent carries out the orders on its standard input and keeps the sockets.
func runAgent() int {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var fds []int
	for {
		var o Order
		if in.Decode(&o) != nil {
			return 0
		}
		if o.Close {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			fds = nil
		}
		var answer outcome
		if o.Addr != "" {
			fd, port, err := o.Do()
			if err == nil {
				fds = append(fds, fd)
			}
			answer.Port = port
			errors.As(err, &answer.Errno)
		}
		if out.Encode(answer) != nil {
			return 1
		}
	}
}

// An Agent is a process that has sockets.
type Agent struct {
	t   testing.TB
	PID int // of the process
	in  *json.Encoder
	out *json.Decoder
}

// StartAgent starts an agent of the user; it ends with the test.
func StartAgent(t testing.TB, uid uint32) *Agent {
	t.Helper()
	c := Command(t, "agent")
	if uid != 0 {
		if os.Geteuid() != 0 {
			SkipUnprivileged(t, "cannot be another user")
		}
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		c.Path = WorldExecutable(t, c.Path)
		c.Dir = "/"
	}
	stdin, err := c.StdinPipe()
	require.NoError(t, err)
	stdout, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = c.Wait()
	})
	return &Agent{t, c.Process.Pid, json.NewEncoder(stdin), json.NewDecoder(stdout)}
}

// WorldExecutable returns a path by which another user can execute the program.
func WorldExecutable(t testing.TB, path string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "iwarp-test-") // not t.TempDir, which is the user's alone
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	from, err := os.Open(path)
	require.NoError(t, err)
	defer from.Close()
	to, err := os.OpenFile(dir+"/test", os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	require.NoError(t, os.Chmod(dir+"/test", 0o755))
	return dir + "/test"
}

// Do has the agent carry out an order, and returns the port and the error.
func (a *Agent) Do(o Order) (int, error) {
	a.t.Helper()
	require.NoError(a.t, a.in.Encode(o))
	var answer outcome
	require.NoError(a.t, a.out.Decode(&answer))
	if answer.Errno != 0 {
		return answer.Port, answer.Errno
	}
	return answer.Port, nil
}

// Forget has the agent close all its sockets.
func (a *Agent) Forget() { _, _ = a.Do(Order{Close: true}) }
