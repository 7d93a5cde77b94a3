package ports_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/ports"
	"github.com/rdmanet/iwarp/internal/sockdiag"
	"github.com/rdmanet/iwarp/internal/testkit"
)

const (
	sandboxVariable = "IWARP_TEST_SANDBOX"
	insideVariable  = "IWARP_TEST_INSIDE"
)

func init() {
	processes["sandbox"] = runSandbox
	processes["contender"] = runContender
	processes["each"] = runEach
	processes["limits"] = func() int {
		fmt.Println(strings.Join((&iwarp.PortSpace{}).Limits(), "\n"))
		return 0
	}
	processes["stolen"] = func() int {
		r, err := (&iwarp.PortSpace{}).Reserve(contextOfProcess, "tcp", "127.0.0.1:0")
		if err == nil {
			err = admitAndLook(r)
		}
		fmt.Println(err)
		return 0
	}
}

// sandboxed prepares a process that cannot have sockets of the address families, as systemd's
// RestrictAddressFamilies= makes them, nor, with "v6only", the option of that name. "10=1" has the
// error with that number instead, as other sandboxes do.
func sandboxed(t testing.TB, box, name string, env ...string) *exec.Cmd {
	t.Helper()
	require.Contains(t, processes, name)
	return command(t, "sandbox", append(env, sandboxVariable+"="+box, insideVariable+"="+name)...)
}

// runSandbox has a filter of system calls for the program that it turns into.
func runSandbox() int {
	runtime.LockOSThread()
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	unless := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: skip, K: k}
	}
	end := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	const allow, fail = 0x7fff0000, 0x00050000 // SECCOMP_RET_ALLOW and SECCOMP_RET_ERRNO
	const number, argument0, argument1, argument2 = 0, 16, 24, 32
	var program []unix.SockFilter
	for _, f := range strings.FieldsFunc(os.Getenv(sandboxVariable), func(r rune) bool { return r == ',' }) {
		if f == "v6only" {
			program = append(program,
				load(number), unless(unix.SYS_SETSOCKOPT, 5), load(argument1), unless(unix.IPPROTO_IPV6, 3),
				load(argument2), unless(unix.IPV6_V6ONLY, 1), end(fail|uint32(unix.ENOPROTOOPT)))
			continue
		}
		name, code, given := strings.Cut(f, "=")
		family, _ := strconv.Atoi(name)
		errno, _ := strconv.Atoi(code)
		if !given {
			errno = int(unix.EAFNOSUPPORT)
		}
		program = append(program,
			load(number), unless(unix.SYS_SOCKET, 3), load(argument0), unless(uint32(family), 1), end(fail|uint32(errno)))
	}
	program = append(program, end(allow))
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
	}
	if err != nil {
		fmt.Println(noSandbox, err)
		return 0
	}
	_ = os.Setenv(testkit.ProcessVariable, os.Getenv(insideVariable))
	err = unix.Exec("/proc/self/exe", os.Args, os.Environ())
	fmt.Println(noSandbox, err)
	return 0
}

const noSandbox = "no sandbox:"

// outputOf runs a sandboxed process, or skips the test.
func outputOf(t testing.TB, box, name string, env ...string) string {
	t.Helper()
	out, err := sandboxed(t, box, name, env...).Output()
	require.NoError(t, err)
	if strings.HasPrefix(string(out), noSandbox) {
		skipUnprivileged(t, string(out))
	}
	return strings.TrimSpace(string(out))
}

// runContender says how often the process had the port, and how often so had another one.
func runContender() int {
	f := os.NewFile(3, "holder")
	holders, err := holdersOf(f)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	holder := &holders[0]
	length, _ := time.ParseDuration(os.Getenv("IWARP_TEST_STORM"))
	had, twice, me := 0, 0, uint32(os.Getpid())
	for end := time.Now().Add(length); time.Now().Before(end); {
		r, err := (&iwarp.PortSpace{}).Reserve(contextOfProcess, "tcp", os.Getenv("IWARP_TEST_ADDRESS"))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		if holder.CompareAndSwap(0, me) {
			had++
			time.Sleep(200 * time.Microsecond) // for others to see it
			holder.Store(0)
		} else {
			twice++
		}
		_ = r.Release()
	}
	fmt.Println(had, twice)
	return 0
}

// TestContendInSandbox has several processes want a port with connections in TIME_WAIT, where they
// cannot look for each other: the kernel itself has to let one have it.
func TestContendInSandbox(t *testing.T) {
	for _, tt := range []struct{ name, box, host string }{
		{"no sandbox", "", "127.0.0.1"}, {"no unix", "1", "127.0.0.1"}, {"no netlink", "16", "127.0.0.1"}, {"neither", "1,16", "127.0.0.1"},
		{"no IPv4", "2", "::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.host == "::1" && !nettest.SupportsIPv6() {
				t.Skip("no IPv6")
			}
			port := timeWaitOn(t, "", tt.host)
			f, err := os.CreateTemp(t.TempDir(), "holder")
			require.NoError(t, err)
			defer f.Close()
			require.NoError(t, f.Truncate(4*stormPorts))
			var wait []func() string
			for range 4 {
				c := sandboxed(t, tt.box, "contender", "IWARP_TEST_STORM=400ms",
					"IWARP_TEST_ADDRESS="+net.JoinHostPort(tt.host, strconv.Itoa(port)))
				c.ExtraFiles = []*os.File{f}
				var out strings.Builder
				c.Stdout = &out
				require.NoError(t, c.Start())
				wait = append(wait, func() string {
					require.NoError(t, c.Wait())
					return out.String()
				})
			}
			total := 0
			for _, w := range wait {
				out := w()
				if strings.HasPrefix(out, noSandbox) {
					skipUnprivileged(t, out)
				}
				var had, twice int
				_, err := fmt.Sscan(out, &had, &twice)
				require.NoError(t, err, out)
				require.Zero(t, twice, "a port that two had at once")
				total += had
			}
			require.NotZero(t, total)
			t.Logf("had %d times", total)
		})
	}
}

// TestContendWithHolder leaves the port to a socket that has SO_REUSEADDR and does not listen, as
// one has it for a moment that is about to.
func TestContendWithHolder(t *testing.T) {
	if !sockdiag.BoundVisible() {
		t.Skip("this kernel does not list sockets that are only bound")
	}
	port := timeWait(t, "")
	other := startAgent(t, 0)
	_, err := other.Do(order{Addr: "127.0.0.1", Port: port, ReuseAddr: true})
	require.NoError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	_, err = (&iwarp.PortSpace{}).Reserve(t.Context(), "tcp", address)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.ErrorContains(t, err, fmt.Sprintf("(pid %d)", other.PID))
	other.Forget()
	require.NoError(t, reserve(t, nil, "tcp", address).Release())
}

// TestSandboxIsNamed tells what is lost without netlink sockets, and does not take "could not look"
// for "nobody".
func TestSandboxIsNamed(t *testing.T) {
	require.NotContains(t, outputOf(t, "", "limits"), "netlink")
	require.Contains(t, outputOf(t, "16", "limits"), "netlink sockets are not to be had, as in a sandbox without AF_NETLINK")
	for _, box := range []string{"2", "2=1", "10"} {
		require.Equal(t, outputOf(t, "", "limits"), outputOf(t, box, "limits"), "a family is not the kernel's")
	}
	require.Equal(t, "<nil>", outputOf(t, "", "stolen"))
	require.Contains(t, outputOf(t, "16", "stolen"), "address already in use: who else listens on the port cannot be looked up: ")
	l := listen(t, iwarp.ListenConfig{})
	require.Contains(t, outputOf(t, "16", "reserve", "IWARP_TEST_ADDRESS="+l.Addr().String()),
		"address already in use (by whom cannot be looked up: ")
}

// TestListenInSandbox listens where a family or IPV6_V6ONLY is not to be had, as package net does.
func TestListenInSandbox(t *testing.T) {
	for _, box := range []string{"v6only", "10", "2", "10=1", "2=13"} {
		for _, network := range []string{"tcp", "tcp4", "tcp6"} {
			said := strings.Split(outputOf(t, box, "listens", "IWARP_TEST_NETWORK="+network), "\n")
			require.Len(t, said, 3+len(policies))
			for _, s := range said {
				require.Equal(t, said[0], s, "%s with %s", network, box)
			}
		}
	}
}

// TestReserveEachInSandbox takes the addresses that there are where a family is not to be had, and
// takes none of the others for a conflict.
func TestReserveEachInSandbox(t *testing.T) {
	if !nettest.SupportsIPv6() {
		t.Skip("no IPv6")
	}
	for box, want := range map[string]string{"": "IPv4 IPv6", "2": "IPv6", "2=1": "IPv6", "10": "IPv4", "10=13": "IPv4"} {
		require.Equal(t, want+"\nmap[] <nil>", outputOf(t, box, "each"), "box %s", box)
	}
	require.Contains(t, outputOf(t, "2,10", "each"), "address family not supported by protocol")
}

// runEach says of which families the members of a set of all addresses are.
func runEach() int {
	s, err := (&iwarp.PortSpace{}).ReserveEach(contextOfProcess, 0)
	if err != nil {
		fmt.Println(err)
		return 0
	}
	families := make(map[string]bool)
	for _, r := range s.Members() {
		families[map[bool]string{false: "IPv6", true: "IPv4"}[r.Addr().(*net.TCPAddr).IP.To4() != nil]] = true
	}
	fmt.Println(strings.Join(slices.Sorted(maps.Keys(families)), " "))
	members := s.Members()
	for _, r := range members {
		_ = r.Release()
	}
	ctx, cancel := context.WithCancel(contextOfProcess)
	followed := make(chan error)
	go func() { followed <- s.Follow(ctx) }()
	for len(s.Members()) < len(members) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	fmt.Println(s.Conflicts(), <-followed)
	return 0
}

func init() { processes["listens"] = runListens }

// runListens says what comes of listening on any port, first by package net.
func runListens() int {
	network := os.Getenv("IWARP_TEST_NETWORK")
	say := func(l net.Listener, err error) {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			fmt.Println(errno)
			return
		}
		host, _, _ := net.SplitHostPort(l.Addr().String())
		fmt.Println(host, err)
	}
	say(net.Listen(network, ":0"))
	r, err := (&iwarp.PortSpace{}).Reserve(contextOfProcess, network, ":0")
	if err != nil {
		say(nil, err)
		say(nil, err)
	} else {
		host, _, _ := net.SplitHostPort(r.Addr().String())
		fmt.Println(host, nil)
		say(r.Listen())
	}
	for _, policy := range policies {
		say((&iwarp.ListenConfig{Offload: policy}).Listen(contextOfProcess, network, ":0"))
	}
	return 0
}

// admitAndLook opens the port to a device's socket, closes it again, and looks who else listens.
func admitAndLook(r *iwarp.Reservation) error {
	e, err := (*ports.Reservation)(r).Join()
	if err != nil {
		return err
	}
	defer e.Leave(false)
	shut, err := e.Admit()
	if err != nil {
		return err
	}
	shut()
	return e.Stolen()
}
