package iwarp_test

import (
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/sockdiag"
)

// TestConflictNamesHolder has the error of a port in use say who uses it.
func TestConflictNamesHolder(t *testing.T) {
	other := startAgent(t, 0)
	for name, o := range map[string]order{"listening": {Addr: "127.0.0.1", Listen: true}, "bound": {Addr: "127.0.0.1"}} {
		t.Run(name, func(t *testing.T) {
			if name == "bound" && !sockdiag.BoundVisible() {
				t.Skip("this kernel does not list sockets that are only bound")
			}
			port, err := other.do(o)
			require.NoError(t, err)
			defer other.forget()
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			for _, wanted := range []string{address, net.JoinHostPort("", strconv.Itoa(port)), net.JoinHostPort("0.0.0.0", strconv.Itoa(port))} {
				_, err = iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", wanted)
				require.ErrorIs(t, err, syscall.EADDRINUSE)
				require.ErrorContains(t, err, "address already in use: "+name+" on "+address+" by ")
				require.ErrorContains(t, err, "(pid "+strconv.Itoa(other.pid)+")")
				var c *iwarp.ConflictError
				require.ErrorAs(t, err, &c)
				require.Len(t, c.Holders(), 1)
				require.Equal(t, other.pid, c.Holders()[0].PID)
				require.NotEmpty(t, c.Holders()[0].Process)
				require.False(t, c.Holders()[0].Kernel)
				var errno *os.SyscallError
				require.ErrorAs(t, err, &errno)
			}
			if name == "listening" {
				_, err = iwarp.Listen("tcp", address)
				var c *iwarp.ConflictError
				require.ErrorAs(t, err, &c)
				require.Equal(t, other.pid, c.Holders()[0].PID)
				_, want := net.Listen("tcp", address)
				require.Equal(t, want.Error(), err.Error())
			}
		})
	}
	t.Run("in the way of another address", func(t *testing.T) {
		port, err := other.do(order{Addr: "127.0.0.2", Listen: true})
		require.NoError(t, err)
		defer other.forget()
		mine, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		require.NoError(t, err)
		defer mine.Close()
		_, err = iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", mine.Addr().String())
		require.ErrorContains(t, err, "pid "+strconv.Itoa(os.Getpid()))
		require.NotContains(t, err.Error(), strconv.Itoa(other.pid), "it is not in the way")
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
	c.Path, c.Dir = worldExecutable(t, c.Path), "/"
	out, err := c.Output()
	require.NoError(t, err)
	require.Equal(t, "reserve tcp "+l.Addr().String()+": bind: address already in use: listening on "+l.Addr().String()+" by a process of user 0", string(out))

	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || string(b) != "1024\n" {
		t.Skip("low ports need no privilege here")
	}
	c = command(t, "reserve", "IWARP_TEST_ADDRESS=127.0.0.1:81")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	c.Path, c.Dir = worldExecutable(t, c.Path), "/"
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
