package ports_test

import (
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/sockdiag"
)

const (
	free  = syscall.Errno(0)
	taken = unix.EADDRINUSE
)

// nobody is a user other than the one who runs the tests.
const nobody = 65534

// TestPortMatrix holds a port in one process and lets another try to take it, in all the ways there
// are. What the rows without a reservation say of the kernel is what the rows with one rest on.
func TestPortMatrix(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const lo, any4, any6, v4in6 = "127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"
	held := func(network, address string) func(testing.TB) int {
		return func(t testing.TB) int {
			return reserve(t, &iwarp.PortSpace{}, network, address).Addr().(*net.TCPAddr).Port
		}
	}
	listening := func(network, address string) func(testing.TB) int {
		return func(t testing.TB) int {
			r := reserve(t, &iwarp.PortSpace{}, network, address)
			l, err := r.Listen()
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			return r.Addr().(*net.TCPAddr).Port
		}
	}
	thieves := []order{{Addr: lo}, {Addr: lo, ReuseAddr: true}, {Addr: lo, ReusePort: true}, {Addr: lo, ReuseAddr: true, ReusePort: true},
		{Addr: any4}, {Addr: any4, ReuseAddr: true}, {Addr: any4, ReusePort: true}, {Addr: any6}, {Addr: any6, ReuseAddr: true},
		{Addr: v4in6}, {Addr: v4in6, ReuseAddr: true}, {Addr: any4, Device: "lo"}, {Addr: any4, Device: "lo", ReuseAddr: true}}
	type row struct {
		name   string
		raw    order                // of the other process, unless
		port   func(testing.TB) int // makes the holder
		thief  order
		user   uint32
		result syscall.Errno
	}
	rows := []row{
		{name: "bound/plain", raw: order{Addr: lo}, thief: order{Addr: lo}, result: taken},
		{name: "bound/reuseaddr", raw: order{Addr: lo}, thief: order{Addr: lo, ReuseAddr: true}, result: taken},
		{name: "bound reuseaddr/reuseaddr", raw: order{Addr: lo, ReuseAddr: true}, thief: order{Addr: lo, ReuseAddr: true}, result: free},
		{name: "bound reuseaddr cleared/reuseaddr", raw: order{Addr: lo, ReuseAddr: true, Clear: true}, thief: order{Addr: lo, ReuseAddr: true}, result: taken},
		{name: "listening reuseaddr/reuseaddr", raw: order{Addr: lo, ReuseAddr: true, Listen: true}, thief: order{Addr: lo, ReuseAddr: true}, result: taken},
		{name: "bound reuseport/reuseport", raw: order{Addr: lo, ReusePort: true}, thief: order{Addr: lo, ReusePort: true}, result: free},
		{name: "listening reuseport/reuseport", raw: order{Addr: lo, ReusePort: true, Listen: true}, thief: order{Addr: lo, ReusePort: true}, result: free},
		{name: "bound reuseport/reuseport of another user", raw: order{Addr: lo, ReusePort: true}, thief: order{Addr: lo, ReusePort: true}, user: nobody, result: taken},
		{name: "bound reuseport/reuseaddr", raw: order{Addr: lo, ReusePort: true}, thief: order{Addr: lo, ReuseAddr: true}, result: taken},
		{name: "127.0.0.1/0.0.0.0", raw: order{Addr: lo}, thief: order{Addr: any4}, result: taken},
		{name: "0.0.0.0/127.0.0.1", raw: order{Addr: any4}, thief: order{Addr: lo}, result: taken},
		{name: "127.0.0.1/127.0.0.2", raw: order{Addr: lo}, thief: order{Addr: "127.0.0.2"}, result: free},
		{name: "dual/0.0.0.0", raw: order{Addr: any6}, thief: order{Addr: any4}, result: taken},
		{name: "dual/127.0.0.1", raw: order{Addr: any6}, thief: order{Addr: lo}, result: taken},
		{name: "0.0.0.0/dual", raw: order{Addr: any4}, thief: order{Addr: any6}, result: taken},
		{name: "v6only/0.0.0.0", raw: order{Addr: any6, V6Only: true}, thief: order{Addr: any4}, result: free},
		{name: "0.0.0.0/v6only", raw: order{Addr: any4}, thief: order{Addr: any6, V6Only: true}, result: free},
		{name: "127.0.0.1/::1 v6only", raw: order{Addr: lo}, thief: order{Addr: "::1", V6Only: true}, result: free},
		{name: "127.0.0.1/mapped", raw: order{Addr: lo}, thief: order{Addr: v4in6}, result: taken},
		{name: "0.0.0.0%lo/0.0.0.0", raw: order{Addr: any4, Device: "lo"}, thief: order{Addr: any4}, result: taken},

		{name: "reserved/127.0.0.2", port: held("tcp", "127.0.0.1:0"), thief: order{Addr: "127.0.0.2"}, result: free},
		{name: "reserved/::1", port: held("tcp", "127.0.0.1:0"), thief: order{Addr: "::1"}, result: free},
		{name: "reserved v6only/0.0.0.0", port: held("tcp6", ":0"), thief: order{Addr: any4}, result: free},
		{name: "reserved v6only/::1", port: held("tcp6", ":0"), thief: order{Addr: "::1", ReuseAddr: true}, result: taken},
		{name: "reserved v4 wildcard/v6only", port: held("tcp4", ":0"), thief: order{Addr: any6, V6Only: true}, result: free},
		{name: "reserved/of another user", port: held("tcp", "127.0.0.1:0"), thief: order{Addr: lo, ReusePort: true}, user: nobody, result: taken},
	}
	for name, holder := range map[string]func(testing.TB) int{
		"reserved": held("tcp", "127.0.0.1:0"), "reserved mapped": held("tcp", "["+v4in6+"]:0"),
		"reserved wildcard": held("tcp4", ":0"), "reserved dual": held("tcp", ":0"),
		"listening": listening("tcp", "127.0.0.1:0"), "listening wildcard": listening("tcp4", ":0"), "listening dual": listening("tcp", ":0"),
	} {
		for i, thief := range thieves {
			rows = append(rows, row{name: name + "/thief " + strconv.Itoa(i), port: holder, thief: thief, result: taken})
		}
	}

	holder, thief := startAgent(t, 0), startAgent(t, 0)
	var other *agent
	if os.Geteuid() == 0 && canBe(nobody) {
		other = startAgent(t, nobody)
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			defer holder.Forget()
			var port int
			if tt.port != nil {
				port = tt.port(t)
			} else {
				var err error
				port, err = holder.Do(tt.raw)
				require.NoError(t, err)
			}
			by := thief
			if tt.user != 0 {
				if by = other; by == nil {
					skipUnprivileged(t, "cannot be another user")
				}
			}
			defer by.Forget()
			tt.thief.Port, tt.thief.Listen = port, true
			_, err := by.Do(tt.thief)
			require.Equal(t, tt.result, errnoOf(err))
		})
	}
}

// canBe reports whether the user exists in the process's user namespace.
func canBe(uid uint32) bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(b))
	if err != nil || len(f) < 3 {
		return false
	}
	n, _ := strconv.ParseUint(f[2], 10, 64)
	return uint64(uid) < n
}

func errnoOf(err error) syscall.Errno {
	errno, _ := err.(syscall.Errno)
	return errno
}

// TestEphemeralPorts leaves the kernel one port to choose from, which is held or not.
func TestEphemeralPorts(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const port = 40000
	server := startAgent(t, 0)
	serverPort, err := server.Do(order{Addr: "127.0.0.1", Listen: true})
	require.NoError(t, err)
	portRange(t, strconv.Itoa(port)+" "+strconv.Itoa(port))
	to := "127.0.0.1:" + strconv.Itoa(serverPort)
	client := startAgent(t, 0)
	at := ":" + strconv.Itoa(port)
	for _, tt := range []struct {
		name, reserve string
		listen        bool
		connect, bind syscall.Errno
	}{
		{name: "nobody", connect: free, bind: free},
		{name: "reserved", reserve: "127.0.0.1" + at, connect: unix.EADDRNOTAVAIL, bind: taken},
		{name: "listening", reserve: "127.0.0.1" + at, listen: true, connect: unix.EADDRNOTAVAIL, bind: taken},
		{name: "dual", reserve: at, connect: unix.EADDRNOTAVAIL, bind: taken},
		{name: "another address", reserve: "127.0.0.2" + at, connect: unix.EADDRNOTAVAIL, bind: free},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.reserve != "" {
				r := reserve(t, nil, "tcp", tt.reserve)
				if tt.listen {
					l, err := r.Listen()
					require.NoError(t, err)
					defer l.Close()
				}
			}
			for bind, want := range map[bool]syscall.Errno{false: tt.connect, true: tt.bind} {
				server.Forget()
				_, err := server.Do(order{Addr: "127.0.0.1", Port: serverPort, ReuseAddr: true, Listen: true})
				require.NoError(t, err)
				got, err := client.Do(order{Addr: "127.0.0.1", NoBind: !bind, Connect: to})
				require.Equal(t, want, errnoOf(err), "bind %v", bind)
				if want == free {
					require.Equal(t, port, got)
				}
				// Closed by the client first, the port would be in TIME_WAIT: so the server resets
				// it.
				server.Forget()
				client.Forget()
			}
		})
	}
	t.Run("reserved by the administrator", func(t *testing.T) {
		const sysctl = "/proc/sys/net/ipv4/ip_local_reserved_ports"
		require.NoError(t, os.WriteFile(sysctl, []byte(strconv.Itoa(port)), 0))
		defer os.WriteFile(sysctl, []byte("\n"), 0)
		_, err := iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", "127.0.0.1:0")
		require.ErrorIs(t, err, taken, "there is no other port to choose")
		require.NoError(t, reserve(t, nil, "tcp", "127.0.0.1"+at).Release(), "by number it can be had")
	})
}

// TestPortLimits holds what is said of the kernel against what it does.
func TestPortLimits(t *testing.T) {
	limits := strings.Join((&iwarp.PortSpace{}).Limits(), "\n")
	t.Log(limits)
	require.Equal(t, !sockdiag.BoundVisible(), strings.Contains(limits, "only bound"))
	fd, port, err := order{Addr: "127.0.0.1", ReuseAddr: true, Clear: true}.Do()
	require.NoError(t, err)
	defer unix.Close(fd)
	beside, _, err := order{Addr: "127.0.0.1", Port: port, ReuseAddr: true}.Do()
	if err == nil {
		_ = unix.Close(beside)
	}
	require.Equal(t, err == nil, strings.Contains(limits, "can bind, but not listen"))
}

// TestBoundOnlyVisible holds a reservation against what the kernel lists.
func TestBoundOnlyVisible(t *testing.T) {
	r := reserve(t, nil, "tcp", "127.0.0.1:0")
	list, err := holdersAt(r.Addr())
	require.NoError(t, err)
	if !sockdiag.BoundVisible() {
		t.Log("this kernel does not list sockets that are only bound")
		require.Empty(t, list)
	} else {
		require.Len(t, list, 1)
		require.Equal(t, "bound", list[0].State)
		require.Equal(t, os.Getpid(), list[0].PID)
		require.Equal(t, r.Addr().String(), list[0].Local.String())
	}
	l, err := r.Listen()
	require.NoError(t, err)
	defer l.Close()
	list, err = holdersAt(r.Addr())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "listening", list[0].State)
	require.Equal(t, os.Getuid(), list[0].UID)
}

// holdersAt lists the holders of an address; other addresses may have the port as well.
func holdersAt(a net.Addr) ([]iwarp.Holder, error) {
	at := a.(*net.TCPAddr).AddrPort()
	list, err := iwarp.DefaultPortSpace.Holders(at.Port())
	return slices.DeleteFunc(list, func(h iwarp.Holder) bool { return h.Local.Addr() != at.Addr().Unmap() }), err
}
