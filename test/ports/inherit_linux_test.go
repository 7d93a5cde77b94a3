package ports_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

var (
	contextOfProcess = context.Background()
	netipAddrPort    = netip.MustParseAddrPort
)

func init() {
	processes["activated"] = runActivated
	processes["server"] = runServer
}

// runActivated says what it inherited, and serves one client on the first port.
func runActivated() int {
	list, err := iwarp.DefaultPortSpace.Inherit()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, info := range iwarp.DefaultPortSpace.Reservations() {
		fmt.Println(info.Owner, info.Addr, info.State, info.References)
	}
	again, err := iwarp.DefaultPortSpace.Inherit()
	fmt.Println(len(list), len(again), err, os.Getenv("LISTEN_FDS"))
	if len(list) == 0 {
		return 0
	}
	l, err := iwarp.Listen("tcp", list[0].Addr().String())
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	c, err := l.Accept()
	if err != nil {
		return 1
	}
	_, _ = io.WriteString(c, "hello")
	_ = c.Close()
	return 0
}

// TestInherit starts a process as systemd does for a socket unit.
func TestInherit(t *testing.T) {
	listening, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listening.Close()
	idle := reserve(t, nil, "tcp", "127.0.0.1:0")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer udp.Close()
	var files []*os.File
	for _, s := range []interface{ File() (*os.File, error) }{listening.(*net.TCPListener), udp.(*net.UDPConn), idle} {
		f, err := s.File()
		require.NoError(t, err)
		files = append(files, f)
	}
	c := command(t, "activated", "LISTEN_FDS=3", "LISTEN_FDNAMES=web:dns:spare")
	c.Args = []string{"sh", "-c", `LISTEN_PID=$$ exec "$0"`, c.Path}
	c.Path, err = exec.LookPath("sh")
	require.NoError(t, err)
	c.ExtraFiles = files
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	for _, f := range files {
		require.NoError(t, f.Close())
	}
	lines := bufio.NewScanner(out)
	var said []string
	for lines.Scan() && lines.Text() != "ready" {
		said = append(said, lines.Text())
	}
	require.ElementsMatch(t, []string{
		"web " + listening.Addr().String() + " listening 1", "spare " + idle.Addr().String() + " idle 1", "2 0 <nil> ",
	}, said)

	// The port lives on in the other process.
	require.NoError(t, listening.Close())
	require.NoError(t, idle.Release())
	_, err = iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", idle.Addr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.ErrorIs(t, thief(t, idle.Addr()), syscall.EADDRINUSE)
	client := dialTCP(t, listening)
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	require.NoError(t, c.Wait())
	reserve(t, nil, "tcp", idle.Addr().String())
}

func TestInheritNothing(t *testing.T) {
	for _, env := range [][2]string{{"", ""}, {"1", "1"}, {"1", ""}} {
		t.Setenv("LISTEN_FDS", env[0])
		t.Setenv("LISTEN_PID", env[1])
		list, err := (&iwarp.PortSpace{}).Inherit()
		require.NoError(t, err)
		require.Empty(t, list)
	}
	t.Setenv("LISTEN_FDS", "many")
	t.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	_, err := (&iwarp.PortSpace{}).Inherit()
	require.ErrorContains(t, err, `not a number of descriptors: "many"`)
}

func TestAdoptErrors(t *testing.T) {
	file := func(s interface{ File() (*os.File, error) }) *os.File {
		f, err := s.File()
		require.NoError(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	l := listen(t, iwarp.ListenConfig{})
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer udp.Close()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer plain.Close()
	connected, packets := file(dialTCP(t, plain)), file(udp.(*net.UDPConn))
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	before := openFiles(t)
	for text, f := range map[string]*os.File{
		"socket is connected": connected, "not a TCP socket": packets, "socket operation on non-socket": r,
	} {
		_, err := iwarp.DefaultPortSpace.Adopt(f)
		require.Equal(t, "adopt", opError(t, err).Op)
		require.ErrorContains(t, err, text)
	}
	require.Equal(t, before, openFiles(t), "no copy is left open")

	// A socket that listens cannot dial, and goes on listening.
	a, err := (&iwarp.PortSpace{}).Adopt(file(l))
	require.NoError(t, err)
	_, err = a.DialContext(t.Context(), "tcp", l.Addr().String())
	require.ErrorIs(t, err, syscall.EINVAL)
	second, err := a.Listen()
	require.NoError(t, err)
	defer second.Close()
	require.Equal(t, l.Addr(), second.Addr())
}

// runServer is a server that hands its port over: to the next one, which it starts when told to. It
// serves until its standard input ends.
func runServer() int {
	ps := &iwarp.PortSpace{}
	address := os.Getenv("IWARP_TEST_ADDRESS")
	fail := func(err error) int {
		fmt.Println("error", err)
		return 1
	}
	if os.Getenv("IWARP_TEST_FD") != "" {
		f := os.NewFile(3, "handed over")
		r, err := ps.Adopt(f)
		if err != nil {
			return fail(err)
		}
		_ = f.Close()
		address = r.Addr().String()
	}
	if os.Getenv("IWARP_TEST_RESERVE") != "" {
		if _, err := ps.Reserve(contextOfProcess, "tcp", address); err != nil {
			return fail(err)
		}
	}
	lc := iwarp.ListenConfig{PortSpace: ps}
	l, err := lc.Listen(contextOfProcess, "tcp", address)
	if err != nil {
		return fail(err)
	}
	fmt.Println("ready", l.Addr(), os.Getpid())
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	in := bufio.NewScanner(os.Stdin)
	if in.Scan() {
		f, err := l.(*iwarp.Listener).File()
		if err != nil {
			return fail(err)
		}
		next := exec.Command(os.Args[0])
		next.Env = append(os.Environ(), "IWARP_TEST_FD=3")
		next.ExtraFiles = []*os.File{f}
		next.Stdin, next.Stderr = os.Stdin, os.Stderr
		out, err := next.StdoutPipe()
		if err != nil {
			return fail(err)
		}
		if err := next.Start(); err != nil {
			return fail(err)
		}
		_ = f.Close()
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			return fail(err)
		}
		if err := l.(*iwarp.Listener).Drain(contextOfProcess); err != nil {
			return fail(err)
		}
		served.Wait()
		_ = l.Close()
		fmt.Print(line)
		go io.Copy(os.Stdout, out)
		_ = next.Wait()
		return 0
	}
	_ = l.Close()
	return 0
}

// TestRestartWithoutDowntime hands the port of a running server from process to process while
// clients come without a break.
func TestRestartWithoutDowntime(t *testing.T) {
	c := command(t, "server", "IWARP_TEST_ADDRESS=127.0.0.1:0")
	stdin, err := c.StdinPipe()
	require.NoError(t, err)
	stdout, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	out := bufio.NewScanner(stdout)
	ready := func() (address, pid string) {
		require.True(t, out.Scan())
		f := strings.Fields(out.Text())
		require.Len(t, f, 3, out.Text())
		require.Equal(t, "ready", f[0], out.Text())
		return f[1], f[2]
	}
	address, pid := ready()
	var served atomic.Int64
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := roundTrip(address); err != nil {
				done <- err
				return
			}
			served.Add(1)
		}
	}()
	for range 20 {
		before := served.Load()
		eventually(t, func() bool { return served.Load() > before+5 || len(done) > 0 }, "clients that are served")
		_, err := io.WriteString(stdin, "hand over\n")
		require.NoError(t, err)
		same, next := ready()
		require.Equal(t, address, same)
		require.NotEqual(t, pid, next)
		pid = next
	}
	before := served.Load()
	eventually(t, func() bool { return served.Load() > before+5 || len(done) > 0 }, "clients that are served")
	close(stop)
	require.NoError(t, <-done, "after %d clients", served.Load())
	require.NoError(t, stdin.Close())
	require.NoError(t, c.Wait())
}

// roundTrip is a client. A server that is handed over resets nobody whom it has accepted, so no
// error is in order.
func roundTrip(address string) error {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_ = c.(*net.TCPConn).SetLinger(0) // leaves nothing in TIME_WAIT
	if _, err := io.WriteString(c, "hello"); err != nil {
		return err
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != "hello" {
		return errors.New("wrong answer")
	}
	return nil
}
