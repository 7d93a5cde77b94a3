package ports_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/sockdiag"
	"github.com/rdmanet/iwarp/internal/testkit"
)

// TestConflictNamesHolder has the error of a port in use say who uses it.
func TestConflictNamesHolder(t *testing.T) {
	other := startAgent(t, 0)
	for name, o := range map[string]order{"listening": {Addr: "127.0.0.1", Listen: true}, "bound": {Addr: "127.0.0.1"}} {
		t.Run(name, func(t *testing.T) {
			if name == "bound" && !sockdiag.BoundVisible() {
				t.Skip("this kernel does not list sockets that are only bound")
			}
			port, err := other.Do(o)
			require.NoError(t, err)
			defer other.Forget()
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			for _, wanted := range []string{address, net.JoinHostPort("", strconv.Itoa(port)), net.JoinHostPort("0.0.0.0", strconv.Itoa(port))} {
				_, err = iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", wanted)
				require.ErrorIs(t, err, syscall.EADDRINUSE)
				require.ErrorContains(t, err, "address already in use: "+name+" on "+address+" by ")
				require.ErrorContains(t, err, "(pid "+strconv.Itoa(other.PID)+")")
				var c *iwarp.ConflictError
				require.ErrorAs(t, err, &c)
				require.Len(t, c.Holders(), 1)
				require.Equal(t, other.PID, c.Holders()[0].PID)
				require.NotEmpty(t, c.Holders()[0].Process)
				require.False(t, c.Holders()[0].Kernel)
				var errno *os.SyscallError
				require.ErrorAs(t, err, &errno)
			}
			if name == "listening" {
				_, err = iwarp.Listen("tcp", address)
				var c *iwarp.ConflictError
				require.ErrorAs(t, err, &c)
				require.Equal(t, other.PID, c.Holders()[0].PID)
				_, want := net.Listen("tcp", address)
				require.Equal(t, want.Error(), err.Error())
			}
		})
	}
	t.Run("in the way of another address", func(t *testing.T) {
		port, err := other.Do(order{Addr: "127.0.0.2", Listen: true})
		require.NoError(t, err)
		defer other.Forget()
		mine, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		require.NoError(t, err)
		defer mine.Close()
		_, err = iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", mine.Addr().String())
		require.ErrorContains(t, err, "pid "+strconv.Itoa(os.Getpid()))
		require.NotContains(t, err.Error(), strconv.Itoa(other.PID), "it is not in the way")
	})
	t.Run("connection", func(t *testing.T) {
		l := listen(t, iwarp.ListenConfig{})
		c := dialTCP(t, l)
		_, err := iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", c.LocalAddr().String())
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, "established on "+c.LocalAddr().String()+" to "+l.Addr().String()+" by ")
	})
}

// TestConflictWithoutPrivilege does not say more than another user may know.
func TestConflictWithoutPrivilege(t *testing.T) {
	if os.Geteuid() != 0 || !canBe(nobody) {
		skipUnprivileged(t, "cannot be another user")
	}
	l := listen(t, iwarp.ListenConfig{})
	c := command(t, "reserve", "IWARP_TEST_ADDRESS="+l.Addr().String())
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	c.Path, c.Dir = testkit.WorldExecutable(t, c.Path), "/"
	out, err := c.Output()
	require.NoError(t, err)
	require.Equal(t, "reserve tcp "+l.Addr().String()+": bind: address already in use: listening on "+l.Addr().String()+" by a process of user 0", string(out))

	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || string(b) != "1024\n" {
		t.Skip("low ports need no privilege here")
	}
	c = command(t, "reserve", "IWARP_TEST_ADDRESS=127.0.0.1:81")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	c.Path, c.Dir = testkit.WorldExecutable(t, c.Path), "/"
	out, err = c.Output()
	require.NoError(t, err)
	require.Equal(t, "reserve tcp 127.0.0.1:81: bind: permission denied", string(out))
}

func init() {
	processes["reserve"] = func() int {
		_, err := (&iwarp.PortSpace{}).Reserve(contextOfProcess, "tcp", os.Getenv("IWARP_TEST_ADDRESS"))
		if err != nil {
			_, _ = os.Stdout.WriteString(err.Error())
		}
		return 0
	}
}

func TestHolderString(t *testing.T) {
	h := iwarp.Holder{Local: netipAddrPort("127.0.0.1:80"), State: "listening", UID: 7}
	require.Equal(t, "listening on 127.0.0.1:80 by a process of user 7", h.String())
	h.Kernel = true
	require.Equal(t, "listening on 127.0.0.1:80 by a kernel socket without a process (siw?)", h.String())
	h.PID, h.Process = 12, "nginx"
	require.Equal(t, "listening on 127.0.0.1:80 by nginx (pid 12)", h.String())
	h = iwarp.Holder{Local: netipAddrPort("127.0.0.1:80"), Remote: netipAddrPort("127.0.0.1:4000"), State: "time-wait"}
	require.Equal(t, "time-wait on 127.0.0.1:80 to 127.0.0.1:4000", h.String())
}

// TestHiddenHolder does not take a holder that cannot be seen for the kernel.
func TestHiddenHolder(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if os.Geteuid() != 0 || !canBe(nobody) || err != nil {
		skipUnprivileged(t, "cannot be another user")
	}
	comm, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	me := strings.TrimSpace(string(comm)) + " (pid "
	for name, test := range map[string]struct {
		listener uint32 // user
		options  string // of /proc; none is the usual one
		pids     bool   // a PID namespace of its own
		says     string
	}{
		"another PID namespace":            {0, "rw", true, "a process that cannot be seen from here"},
		"user of another PID namespace":    {nobody, "rw", true, "a process of user " + strconv.Itoa(nobody)},
		"another PID namespace, old /proc": {0, "", true, me},
		"the same PID namespace":           {0, "", false, me},
	} {
		t.Run(name, func(t *testing.T) {
			other := startAgent(t, test.listener)
			port, err := other.Do(order{Addr: "127.0.0.1", Listen: true})
			require.NoError(t, err)
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			c := command(t, "reserve", "IWARP_TEST_ADDRESS="+address)
			mount := ""
			c.SysProcAttr = &syscall.SysProcAttr{}
			if test.options != "" {
				mount = "mount -t proc -o " + test.options + " proc /proc && "
				c.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
			}
			if test.pids {
				c.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
			}
			c.Args = []string{"sh", "-c", mount + `exec "$0"`, c.Path}
			c.Path = "/bin/sh"
			out, err := c.Output()
			require.NoError(t, err)
			say := "reserve tcp " + address + ": bind: address already in use: listening on " + address + " by " + test.says
			require.Equal(t, say, string(out)[:min(len(say), len(out))])
		})
	}
	t.Run("without the privilege", func(t *testing.T) { // as of a service with CapabilityBoundingSet=
		other := startAgent(t, 0)
		port, err := other.Do(order{Addr: "127.0.0.1", Listen: true})
		require.NoError(t, err)
		c := command(t, "reserve", "IWARP_TEST_ADDRESS="+net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		c.Args = []string{"setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", c.Path}
		c.Path = setpriv
		out, err := c.Output()
		require.NoError(t, err)
		require.Contains(t, string(out), " by a process that cannot be seen from here")
	})
	t.Run("/proc that hides", func(t *testing.T) {
		l := listen(t, iwarp.ListenConfig{})
		c := command(t, "reserve", "IWARP_TEST_ADDRESS="+l.Addr().String())
		c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		c.Args = []string{"sh", "-c", `mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid ` + strconv.Itoa(nobody) + ` --clear-groups "$0"`, testkit.WorldExecutable(t, c.Path)}
		c.Path, c.Dir = "/bin/sh", "/"
		out, err := c.Output()
		require.NoError(t, err)
		require.Contains(t, string(out), "listening on "+l.Addr().String()+" by a process of user 0")
	})
}

// TestHoldersAreOfThen names in an error who had the port, whatever has become of it since.
func TestHoldersAreOfThen(t *testing.T) {
	other := startAgent(t, 0)
	port, err := other.Do(order{Addr: "127.0.0.1", Listen: true})
	require.NoError(t, err)
	_, err = iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	other.Forget()
	require.ErrorContains(t, err, "(pid "+strconv.Itoa(other.PID)+")")
	var c *iwarp.ConflictError
	require.ErrorAs(t, err, &c)
	require.Equal(t, other.PID, c.Holders()[0].PID)
}

// TestProcessNameIsQuoted makes a process choose a name that should look like something else.
func TestProcessNameIsQuoted(t *testing.T) {
	for name, want := range map[string]string{
		"nginx":           "nginx",
		"kworker/0:1":     "kworker/0:1",
		"a b":             `"a b"`,
		"x\ninjected: ok": `"x\ninjected: ok"`,
		"\x1b[2Jx":        `"\x1b[2Jx"`,
		"sshd (pid 1)":    `"sshd (pid 1)"`,
		"f\xff":           `"f\xff"`,
		" ":               `" "`,
	} {
		t.Run(want, func(t *testing.T) {
			c := command(t, "named", "IWARP_TEST_NAME="+name)
			stdin, err := c.StdinPipe()
			require.NoError(t, err)
			out, err := c.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, c.Start())
			address, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			_, err = iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", strings.TrimSpace(address))
			require.NoError(t, stdin.Close())
			require.NoError(t, c.Wait())
			var conflict *iwarp.ConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, name, conflict.Holders()[0].Process)
			require.ErrorContains(t, err, " by "+want+" (pid "+strconv.Itoa(c.Process.Pid)+")")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func init() {
	processes["named"] = func() int {
		name := os.Getenv("IWARP_TEST_NAME")
		if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
			return 1
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 1
		}
		fmt.Println(l.Addr())
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
}

// TestNobodyHoldsUpBinds has somebody own a name by which processes could take turns at a port.
func TestNobodyHoldsUpBinds(t *testing.T) {
	port := timeWait(t, "")
	lock, err := net.ListenPacket("unixgram", "@github.com/rdmanet/iwarp/port/"+strconv.Itoa(port))
	require.NoError(t, err)
	defer lock.Close()
	fastest := time.Hour
	for end := time.Now().Add(patience); fastest >= 250*time.Millisecond && time.Now().Before(end); {
		began := time.Now()
		require.NoError(t, reserve(t, nil, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))).Release())
		fastest = min(fastest, time.Since(began))
	}
	require.Less(t, fastest, 250*time.Millisecond)
}
