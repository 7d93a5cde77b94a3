package shm_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

var (
	kills       = flag.Int("kills", 4, "processes that TestKill kills")
	connections = flag.Int("connections", 100, "connections that TestNothingLeft makes")
	load        = flag.Int("load", 100_000, "bytes that each of these sends and gets back")
	cgroup      = flag.String("cgroup", "", "directory of a memory cgroup, version 1, in which TestMemoryLimit makes one")
)

// childVariable has this program be another process of a test.
const childVariable = "SHM_TEST_CHILD"

// children are what other processes do, with a word as an argument. They end with their standard
// input.
var children = map[string]func(arg string) error{
	// Both ends of a connection may send a count, on and on, or discard what comes. A server has no
	// argument, and serves one client.
	"count": func(at string) error { return forever(at, count) },
	"discard": func(at string) error {
		return forever(at, func(c net.Conn) error { _, err := io.Copy(io.Discard, c); return err })
	},
	// A client says how it has got to a service.
	"ask": func(at string) error {
		c, err := patient.Dial("tcp", at)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(soon())
		b := make([]byte, 8)
		if _, err = c.Write(b); err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err != nil {
			return err
		}
		info, _ := iwarp.Describe(c)
		fmt.Println(info.Transport, info.Err)
		return nil
	},
	// A double in a network namespace of its own has the address and port of a service.
	"double": func(at string) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		lo, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		lo.SetUint16(unix.IFF_UP)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
			return err
		}
		l, err := iwarp.Listen("tcp", at)
		if err != nil {
			return err
		}
		fmt.Println("ready")
		_, err = l.Accept()
		return err
	},
	// An owner has a port of TCP.
	"own": func(at string) error {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		fmt.Println(l.Addr())
		_, err = l.Accept()
		return err
	},
	// A squatter takes the meeting place of a service, and answers with whatever it likes.
	"squat": func(at string) error {
		l, err := net.Listen("unix", shm.MeetingName(netip.MustParseAddrPort(at)))
		if err != nil {
			return err
		}
		fmt.Println("ready")
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go io.Copy(c, c)
		}
	},
}

// forever connects to a server, or is one, and says so.
func forever(at string, do func(c net.Conn) error) error {
	if at != "" {
		c, err := patient.Dial("tcp", at)
		if err != nil {
			return err
		}
		fmt.Println("connected")
		return do(c)
	}
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			_ = do(c)
			_ = c.Close()
		}()
	}
}

// count sends numbers.
func count(c net.Conn) error {
	b := make([]byte, 64<<10)
	for n := uint64(0); ; {
		for i := 0; i < len(b); i += 8 {
			binary.LittleEndian.PutUint64(b[i:], n)
			n++
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

// checkCount reads what count sends, and returns how that ends.
func checkCount(t testing.TB, c net.Conn) error {
	b := make([]byte, 8)
	r := bufio.NewReaderSize(c, 32<<10)
	for n := uint64(0); ; n++ {
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if got := binary.LittleEndian.Uint64(b); got != n {
			require.Equal(t, n, got)
		}
	}
}

func runAsChild() bool {
	name, arg, _ := strings.Cut(os.Getenv(childVariable), " ")
	run, ok := children[name]
	if !ok {
		return false
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := run(arg); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	return true
}

// startChild starts another process, and returns the first line that it writes.
func startChild(t testing.TB, what string, attr *syscall.SysProcAttr) (c *exec.Cmd, says string) {
	t.Helper()
	c = exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), childVariable+"="+what)
	c.Stderr = os.Stderr
	c.SysProcAttr = attr
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	if err := c.Start(); err != nil {
		t.Skip("no other process can be made here: ", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	says, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return c, strings.TrimSpace(says)
}

// TestKill kills either end at any time, while it sends or receives. All that it has sent arrives,
// and then an error, soon.
func TestKill(t *testing.T) {
	l := listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0")
	var longest time.Duration
	for i := range *kills {
		what, isServer := []string{"count", "discard"}[i%2], i/2%2 == 0
		t.Run(fmt.Sprintf("%s server=%t", what, isServer), func(t *testing.T) {
			var child *exec.Cmd
			var c net.Conn
			if isServer {
				var at string
				var err error
				child, at = startChild(t, what, nil)
				c, err = patient.Dial("tcp", at)
				require.NoError(t, err)
			} else {
				accepted := make(chan net.Conn, 1)
				go func() {
					c, err := l.Accept()
					if err != nil {
						t.Error(err)
					}
					accepted <- c
				}()
				child, _ = startChild(t, what+" "+l.Addr().String(), nil)
				c = <-accepted
			}
			defer c.Close()
			require.Equal(t, "shm", describe(t, c).Transport)
			killed := make(chan time.Time, 1)
			go func() {
				time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond) // at random, by what the test is about
				_ = child.Process.Kill()
				_, _ = child.Process.Wait() // the system may take its time
				killed <- time.Now()
			}()
			require.NoError(t, c.SetDeadline(soon()))
			if what == "count" {
				require.ErrorIs(t, checkCount(t, c), io.ErrUnexpectedEOF)
			} else {
				require.ErrorIs(t, count(c), syscall.EPIPE)
			}
			took := time.Since(<-killed)
			longest = max(longest, took)
			require.Less(t, took, limit/2)
			_, err := c.Write([]byte("x"))
			require.ErrorIs(t, err, syscall.EPIPE)
			_, err = c.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		})
	}
	t.Log("the longest time until an error:", longest)
}

// TestSuspendedPeer blocks nobody but its own connections, and no call beyond its deadline.
func TestSuspendedPeer(t *testing.T) {
	child, at := startChild(t, "count", nil)
	c, err := patient.Dial("tcp", at)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, child.Process.Signal(syscall.SIGSTOP))
	require.NoError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = io.Copy(io.Discard, c)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	for err = nil; err == nil; {
		_, err = c.Write(make([]byte, 1<<20))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, child.Process.Signal(syscall.SIGCONT))
	require.NoError(t, c.SetDeadline(soon()))
	_, err = io.ReadFull(c, make([]byte, 4<<20))
	require.NoError(t, err)
}

// TestSquatter goes on with plain TCP where another process has the meeting place of a service.
func TestSquatter(t *testing.T) {
	for name, attr := range map[string]*syscall.SysProcAttr{
		"of the same user": nil,
		"of another user":  {Credential: &syscall.Credential{Uid: 65532, Gid: 65532, NoSetGroups: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if attr != nil && os.Getuid() != 0 {
				t.Skip("needs root")
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			_, says := startChild(t, "squat "+l.Addr().String(), attr)
			require.Equal(t, "ready", says)
			d := iwarp.Dialer{Timeout: limit}
			c, s := meet(t, l, &d, l.Addr().String())
			testkit.Exchange(t, c, s, "hello")
			info := describe(t, c)
			require.Equal(t, iwarp.ReasonNoRoute, info.Reason)
			require.ErrorIs(t, info.Err, transport.ErrNoRoute)
			require.ErrorContains(t, info.Err, "another process has the tcp port")
		})
	}
}

// TestOtherClients serves other users, and those in namespaces of their own as far as it is known
// there who the server is.
func TestOtherClients(t *testing.T) {
	other := &syscall.Credential{Uid: 65532, Gid: 65532, NoSetGroups: true}
	root := []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	for _, tt := range []struct {
		name, says string
		root       bool
		attr       syscall.SysProcAttr
	}{
		{name: "same user", says: "shm <nil>"},
		{name: "another user", root: true, attr: syscall.SysProcAttr{Credential: other}, says: "shm <nil>"},
		{name: "pid namespace", root: true, attr: syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, says: "shm <nil>"},
		{name: "user namespace", root: true, attr: syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: root}, says: "shm <nil>"},
		{name: "user namespace without the user", root: true, attr: syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER},
			says: "tcp no rdma device routes to the address: shared memory is not used: the user who has the tcp port is not known in this user namespace"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root && os.Getuid() != 0 {
				t.Skip("needs root")
			}
			l := listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0")
			go testkit.Echo(l)
			_, says := startChild(t, "ask "+l.Addr().String(), &tt.attr)
			require.Equal(t, tt.says, says)
		})
	}
}

// TestNetworkNamespacesThatLookAlike have nothing to do with each other.
func TestNetworkNamespacesThatLookAlike(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	l := listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0")
	at := l.Addr().String()
	_, says := startChild(t, "double "+at, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	require.Equal(t, "ready", says)
	d := iwarp.Dialer{Timeout: limit}
	c, s := meet(t, l, &d, at)
	require.Equal(t, "shm", describe(t, c).Transport)
	testkit.Exchange(t, c, s, "hello")
	require.NoError(t, l.Close())
	_, err := d.Dial("tcp", at)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// TestMemoryLimit has a server reach the limit of its memory cgroup by what it sends to clients
// that do not read. The system kills it, and that is all that the clients see.
func TestMemoryLimit(t *testing.T) {
	if *cgroup == "" {
		t.Skip("needs -cgroup")
	}
	dir, err := os.MkdirTemp(*cgroup, "shm")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.Remove(dir) })
	child, at := startChild(t, "count", nil)
	for name, v := range map[string]int{"memory.limit_in_bytes": 48 << 20, "cgroup.procs": child.Process.Pid} {
		require.NoError(t, os.WriteFile(dir+"/"+name, []byte(strconv.Itoa(v)), 0o600))
	}
	var all []net.Conn
	for range 1000 {
		c, err := patient.Dial("tcp", at)
		if err != nil {
			break
		}
		defer c.Close()
		all = append(all, c)
	}
	t.Log(len(all), "connections until the server is gone")
	require.Less(t, len(all), 1000)
	ends := make(map[string]int)
	for _, c := range all {
		_ = c.SetDeadline(soon())
		err := checkCount(t, c)
		ends[fmt.Sprint(describe(t, c).Transport, " ", errors.Unwrap(err))]++
	}
	t.Log(ends)
}

// TestMeetingPlaceThatIsTaken gets it once it is free.
func TestMeetingPlaceThatIsTaken(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	at := free.Addr().String()
	require.NoError(t, free.Close())
	child, says := startChild(t, "squat "+at, nil)
	require.Equal(t, "ready", says)
	l := listenTCP(t, iwarp.ListenConfig{FirstByteTimeout: 10 * time.Millisecond}, "tcp", at)
	d := iwarp.Dialer{Timeout: limit}
	c, s := meet(t, l, &d, at)
	require.NotEqual(t, "shm", describe(t, c).Transport)
	_ = s
	require.NoError(t, child.Process.Kill())
	for end := soon(); ; {
		c, _ = meet(t, l, &d, at)
		if describe(t, c).Transport == "shm" {
			break
		}
		require.True(t, time.Now().Before(end))
	}
}

// TestPortOfAnotherProcess has no listener take the meeting place of a service that is not ours.
func TestPortOfAnotherProcess(t *testing.T) {
	_, at := startChild(t, "own 127.0.0.1:0", nil)
	_, err := shm.New(nil).Listen(testContext(t), netip.MustParseAddrPort(at), nil)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

// TestPeerCredentials tells both ends who the other is, where the kernel knows.
func TestPeerCredentials(t *testing.T) {
	c, s := streamPair(t)
	for _, c := range []*rdmanet.Conn{c, s} {
		uid, gid, err := c.PeerCredentials()
		require.NoError(t, err)
		require.Equal(t, [2]int{os.Getuid(), os.Getgid()}, [2]int{int(uid), int(gid)})
	}
	l, err := soft.New(nil).Listen(testContext(t), loopback, nil)
	require.NoError(t, err)
	defer l.Close()
	c, s, err = transporttest.Streams(testContext(t), soft.New(nil), l)
	require.NoError(t, err)
	defer c.Close()
	defer s.Close()
	_, _, err = c.PeerCredentials()
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// TestAllow refuses clients by their user.
func TestAllow(t *testing.T) {
	asked := make(chan [2]uint32, 1)
	tr := shm.New(&shm.Config{Allow: func(uid, gid uint32) bool {
		asked <- [2]uint32{uid, gid}
		return false
	}})
	l := listenTCP(t, iwarp.ListenConfig{Transports: []transport.Transport{tr}}, "tcp", "127.0.0.1:0")
	d := iwarp.Dialer{Timeout: limit}
	c, _ := meet(t, l, &d, l.Addr().String())
	require.Equal(t, iwarp.ReasonDeclined, describe(t, c).Reason)
	require.Equal(t, [2]uint32{uint32(os.Getuid()), uint32(os.Getgid())}, <-asked)
}

// TestNothingLeft makes many connections, at once, and finds everything as it was.
func TestNothingLeft(t *testing.T) {
	maps := func() int {
		b, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		return strings.Count(string(b), "iwarp-shm")
	}
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(list)
	}
	l := listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0")
	go testkit.Echo(l)
	talk := func() {
		c, err := patient.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_ = c.SetDeadline(soon())
		data := random(*load)
		go c.Write(data)
		got := make([]byte, len(data))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != string(data) {
			t.Error("echo differs", err)
		}
	}
	talk()
	settled := func(count func() int, most int, what string) {
		t.Helper()
		for end := soon(); count() > most; time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(end), "%d %s, not %d", count(), what, most)
		}
	}
	settled(maps, 0, "mappings")
	f, g := files(), runtime.NumGoroutine()
	for left := *connections; left > 0; left -= 20 {
		var all sync.WaitGroup
		for range min(left, 20) {
			all.Go(talk)
		}
		all.Wait()
	}
	settled(maps, 0, "mappings")
	settled(files, f, "descriptors")
	settled(runtime.NumGoroutine, g, "goroutines")
}

// TestFewDescriptors has connections fail over to plain TCP, or fail, at each step of their set-up
// for which there is no descriptor, and recover.
func TestFewDescriptors(t *testing.T) {
	l := listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0")
	go func() {
		for {
			c, err := l.Accept()
			var passing interface{ Temporary() bool }
			switch {
			case err == nil:
				go func() {
					_, _ = io.Copy(c, c)
					_ = c.Close()
				}()
			case errors.As(err, &passing) && passing.Temporary():
				time.Sleep(time.Millisecond)
			default:
				return
			}
		}
	}()
	const short = 100 * time.Millisecond
	d := iwarp.Dialer{Timeout: 2 * short, HandshakeTimeout: short}
	talk := func() (string, error) {
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(short))
		if _, err := c.Write([]byte("x")); err != nil {
			return "", err
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		info, _ := iwarp.Describe(c)
		return info.Transport, err
	}
	talks := func() { // sooner or later: it has little time
		t.Helper()
		for end := soon(); ; {
			name, err := talk()
			if name == "shm" && err == nil {
				return
			}
			require.True(t, time.Now().Before(end), "%s, %v", name, err)
		}
	}
	talks()
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	for spare := range 12 {
		shm.CloseLinks()
		few := unix.Rlimit{Cur: limitFor(t, spare), Max: was.Max}
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
		name, err := talk()
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
		t.Log(spare, name, err)
	}
	talks()
}

// limitFor is the limit of descriptors that leaves so many free.
func limitFor(t testing.TB, spare int) uint64 {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	used := make(map[int]bool)
	for _, f := range list {
		n, _ := strconv.Atoi(f.Name())
		if _, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil {
			used[n] = true
		}
	}
	n := 0
	for ; spare > 0 || used[n]; n++ {
		if !used[n] {
			spare--
		}
	}
	return uint64(n)
}
