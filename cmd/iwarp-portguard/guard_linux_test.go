package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/nldev"
	"github.com/rdmanet/iwarp/internal/testkit"
)

const childVariable = "PORTGUARD_TEST_LISTEN"

// A child is another program, which listens at an address until its standard input ends.
func TestMain(m *testing.M) {
	if address := os.Getenv(childVariable); address != "" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(l.Addr())
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// startOther starts a child and returns its address, and what ends it.
func startOther(t *testing.T, address string) (pid int, at netip.AddrPort, stop func()) {
	exe, err := os.Executable()
	require.NoError(t, err)
	other := filepath.Join(t.TempDir(), "other") // which it is then called
	require.NoError(t, os.Symlink(exe, other))
	cmd := exec.Command(other)
	cmd.Env = append(os.Environ(), childVariable+"="+address)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	var s string
	_, err = fmt.Fscan(out, &s)
	require.NoError(t, err)
	return cmd.Process.Pid, netip.MustParseAddrPort(s), stop
}

// A world is a guard of ids that a test makes up.
type world struct {
	*guard
	t    *testing.T
	list []id
	err  error

	drivers bool
	now     time.Time
	logs    bytes.Buffer
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Now()}
	w.guard = newGuard(func() (view, error) { return view{w.list, w.drivers}, w.err }, 100, slog.New(slog.NewTextHandler(&w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	w.clock = func() time.Time { return w.now }
	t.Cleanup(w.close)
	return w
}

// pass has the guard look, with these ids.
func (w *world) pass(ids ...id) {
	w.t.Helper()
	w.list = ids
	require.NoError(w.t, w.look(context.Background()))
}

// reason is why a place is not held.
func (w *world) reason(a netip.AddrPort) reason {
	if t := w.troubles[place{addr: a.Addr(), port: a.Port()}]; t != nil {
		return t.reason
	}
	return ""
}

func listening(a netip.AddrPort) id {
	return id{CMID: nldev.CMID{Local: a, State: nldev.CMListen, Space: nldev.SpaceTCP, Owner: nldev.Owner{Kernel: "test"}}, device: "rxe0", netdev: "lo"}
}

func connected(local netip.AddrPort) id {
	c := listening(local)
	c.State, c.Remote = nldev.CMConnect, netip.MustParseAddrPort("192.0.2.1:7")
	return c
}

// network is that of an address, and of IPv6 alone.
func network(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// isFree reports whether a program that knows nothing of RDMA gets the port, as package net's
// listeners do.
func isFree(t *testing.T, a netip.AddrPort) bool {
	t.Helper()
	l, err := net.Listen(network(a), a.String())
	if err != nil {
		require.ErrorIs(t, err, syscall.EADDRINUSE, a)
		return false
	}
	require.NoError(t, l.Close())
	return true
}

// freePort returns an address with a port that is free, and that the kernel gives only to those who
// ask for it.
func freePort(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	for range 100 {
		a := netip.AddrPortFrom(netip.MustParseAddr(host), uint16(10_000+rand.N(20_000)))
		l, err := net.Listen("tcp", a.String())
		if err == nil {
			require.NoError(t, l.Close())
			return a
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Skip(err) // there is no IPv6
		}
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

func with(a netip.AddrPort, host string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(host), a.Port())
}

func TestHeldAsLongAsWanted(t *testing.T) {
	w := newWorld(t)
	a := freePort(t, "127.91.0.1")
	w.pass(listening(a))
	require.Equal(t, 1, w.held, w.logs.String())
	require.False(t, isFree(t, a))
	require.True(t, isFree(t, with(a, "127.91.0.2")), "other addresses are left alone")
	for range 3 {
		w.pass(listening(a), connected(a)) // by one socket, whatever comes
	}
	require.Equal(t, 1, w.held)
	w.pass(connected(a))
	w.pass()
	require.False(t, isFree(t, a), "an id may be missing once")
	w.pass(connected(a))
	w.pass()
	require.False(t, isFree(t, a))
	w.pass()
	require.True(t, isFree(t, a))
	require.Zero(t, w.held)
	require.Empty(t, w.ports)

	w.pass(listening(a))
	w.err = errors.New("no answer")
	for range 5 {
		require.Error(t, w.look(context.Background()))
	}
	require.False(t, isFree(t, a), "nothing is given back while the kernel does not answer")
}

func TestOnlyPortsThatNeedIt(t *testing.T) {
	w := newWorld(t)
	siw, udp, gone, without := listening(freePort(t, "127.91.0.1")), listening(freePort(t, "127.91.0.1")),
		listening(freePort(t, "127.91.0.1")), listening(netip.MustParseAddrPort("127.91.0.1:0"))
	siw.kernelPorts, udp.Space, gone.State = true, nldev.SpaceUDP, nldev.CMDestroying
	w.pass(siw, udp, gone, without, id{})
	require.Zero(t, w.held)
	require.Empty(t, w.troubles)
}

// TestWildcard holds a wildcard for as long as there is anything of it.
func TestWildcard(t *testing.T) {
	w := newWorld(t)
	any4 := freePort(t, "0.0.0.0")
	one := with(any4, "127.91.0.1")
	w.pass(connected(one), listening(any4))
	require.Equal(t, 1, w.held, w.logs.String())
	require.False(t, isFree(t, any4))
	require.False(t, isFree(t, with(any4, "127.0.0.1")))
	for range 3 {
		w.pass(connected(one))
	}
	require.False(t, isFree(t, one))
	for range 2 {
		w.pass()
	}
	require.True(t, isFree(t, any4))

	// A wildcard that comes later takes in what is held.
	w.pass(connected(one))
	require.True(t, isFree(t, with(any4, "127.91.0.2")))
	w.pass(connected(one), listening(any4))
	require.Equal(t, 1, w.held, w.logs.String())
	require.False(t, isFree(t, with(any4, "127.91.0.2")))
}

func TestWildcardOfBothFamilies(t *testing.T) {
	w := newWorld(t)
	any6 := freePort(t, "::")
	any4 := with(any6, "0.0.0.0")
	w.pass(listening(any6))
	require.Equal(t, 1, w.held)
	require.False(t, isFree(t, any4))
	require.False(t, isFree(t, with(any6, "::1")))
	require.False(t, isFree(t, any6))
	w.pass()
	w.pass()

	// Where IPv4's is taken, IPv6's is held.
	_, at, stop := startOther(t, "127.0.0.1:0")
	any6 = with(at, "::")
	w.pass(listening(any6))
	require.Equal(t, conflict, w.reason(any6), w.logs.String())
	require.Equal(t, 1, w.held, w.logs.String())
	require.False(t, isFree(t, any6))
	stop()
	w.now = w.now.Add(lastRetry)
	w.pass(listening(any6))
	require.Empty(t, w.troubles)
	require.Equal(t, 1, w.held)
	require.False(t, isFree(t, with(at, "0.0.0.0")))
}

// TestWildcardBesideDriver holds a wildcard on the interface of a device, where a driver has
// sockets of the kernel on those of its own.
func TestWildcardBesideDriver(t *testing.T) {
	any4 := freePort(t, "0.0.0.0")
	driver, err := (&net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return bindTo(c, "lo") }}).
		Listen(context.Background(), "tcp4", any4.String())
	require.NoError(t, err)
	defer driver.Close()
	w := newWorld(t)
	w.drivers = true
	siw, rxe := listening(any4), listening(any4)
	siw.device, siw.kernelPorts = "siw0", true
	rxe.netdev = otherInterface(t)
	w.pass(siw, rxe, connected(netip.AddrPortFrom(addressOf(t, rxe.netdev), any4.Port())))
	require.Equal(t, 1, w.held, w.logs.String())
	require.Equal(t, "0.0.0.0%"+rxe.netdev, strings.TrimSuffix(w.ports[any4.Port()][0].String(), fmt.Sprint(":", any4.Port())))
	require.False(t, isFree(t, netip.AddrPortFrom(addressOf(t, rxe.netdev), any4.Port())))
}

// otherInterface returns one that is not the loopback's and has an address of IPv4.
func otherInterface(t *testing.T) string {
	list, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range list {
		if i.Flags&net.FlagLoopback == 0 && addressOf(t, i.Name).IsValid() {
			return i.Name
		}
	}
	t.Skip("there is no other interface")
	return ""
}

func addressOf(t *testing.T, device string) netip.Addr {
	i, err := net.InterfaceByName(device)
	require.NoError(t, err)
	addrs, err := i.Addrs()
	require.NoError(t, err)
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// TestWhoseItIs tells a conflict from a port that the RDMA program itself has.
func TestWhoseItIs(t *testing.T) {
	w := newWorld(t)
	pid, a, stop := startOther(t, "127.91.0.1:0")
	theirs, others := listening(a), listening(a)
	theirs.Owner = nldev.Owner{PID: uint32(pid)}
	w.pass(theirs)
	require.Equal(t, own, w.reason(a), w.logs.String())
	require.NotContains(t, w.logs.String(), "WARN")

	w = newWorld(t)
	w.pass(others)
	require.Equal(t, conflict, w.reason(a), w.logs.String())
	require.EqualValues(t, 1, w.conflicts)
	require.Contains(t, w.logs.String(), "WARN")
	require.Contains(t, w.logs.String(), fmt.Sprintf("pid %d", pid))
	n := strings.Count(w.logs.String(), "WARN")
	w.now = w.now.Add(lastRetry)
	w.pass(others)
	require.Equal(t, n, strings.Count(w.logs.String(), "WARN"), "said once")
	stop()
	w.pass(others)
	require.Equal(t, conflict, w.reason(a), "it is not tried at each look")
	w.now = w.now.Add(lastRetry)
	w.pass(others)
	require.Empty(t, w.troubles)
	require.Contains(t, w.logs.String(), "port is held after all")
	require.False(t, isFree(t, a))
}

func TestOtherNamespace(t *testing.T) {
	other := testkit.ProcessElsewhere(t)
	w := newWorld(t)
	a := freePort(t, "127.91.0.1")
	c := listening(a)
	c.Owner = nldev.Owner{PID: uint32(other)}
	w.pass(c)
	require.Equal(t, elsewhere, w.reason(a))
	require.True(t, isFree(t, a))
	w.pass(listening(netip.MustParseAddrPort("192.0.2.1:7471"))) // an address of somebody else
	require.Equal(t, elsewhere, w.reason(netip.MustParseAddrPort("192.0.2.1:7471")), w.logs.String())
}

func TestLimits(t *testing.T) {
	w := newWorld(t)
	w.max = 2
	var ids []id
	for range 5 {
		ids = append(ids, listening(freePort(t, "127.91.0.1")))
	}
	w.pass(ids...)
	require.Equal(t, 2, w.held)
	require.Len(t, w.troubles, 3)
	require.Equal(t, 1, strings.Count(w.logs.String(), "WARN"), w.logs.String())
	for err, want := range map[error]reason{
		syscall.EMFILE: limit, syscall.ENOBUFS: limit, syscall.EACCES: permission, syscall.EPERM: permission,
		syscall.EADDRNOTAVAIL: elsewhere, syscall.EINVAL: failed,
	} {
		got, text := reasonOf(&net.OpError{Err: os.NewSyscallError("bind", err)}, 1)
		require.Equal(t, want, got, err)
		require.Contains(t, text, err.Error())
	}
}

// BenchmarkLook is a look at 10,000 connections, of which one half was accepted.
func BenchmarkLook(b *testing.B) {
	var ids []id
	for i := range 10_000 {
		port := uint16(7471)
		if i%2 == 1 {
			port = uint16(20_000 + i)
		}
		ids = append(ids, connected(netip.AddrPortFrom(netip.MustParseAddr("127.91.0.1"), port)))
	}
	g := newGuard(func() (view, error) { return view{ids: ids}, nil }, 1<<14, slog.New(slog.DiscardHandler))
	defer g.close()
	require.NoError(b, g.look(context.Background()))
	b.Log(g.held, "ports held")
	for b.Loop() {
		require.NoError(b, g.look(context.Background()))
	}
}
