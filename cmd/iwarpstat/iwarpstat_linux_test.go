package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/internal/testkit"
	_ "github.com/rdmanet/iwarp/transport/rnic"
)

const (
	childVariable = "IWARPSTAT_TEST_CHILD"
	selfVariable  = "IWARPSTAT_TEST_SELF" // an argument, to be the program itself
)

var (
	many = flag.Int("many", 0, "connections of TestMany")
	siw  = flag.String("siw", "", "`address` of a device of siw, for TestDevices")
	rxe  = flag.String("rxe", "", "`address` of a device of rxe, for TestDevices")
)

func TestMain(m *testing.M) {
	if list := os.Getenv(childVariable); list != "" {
		child(list)
		os.Exit(0)
	}
	if arg := os.Getenv(selfVariable); arg != "" {
		os.Exit(run([]string{arg}, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// A described is what a process itself says of a connection.
type described struct {
	Local, Remote, Transport, Reason, Device string
	Offloaded                                bool
}

// A group is of connections of one kind.
type group struct {
	n       int
	policy  iwarp.Offload
	address string // of the listener
}

func (g group) String() string { return fmt.Sprintf("%d/%d/%s", g.n, g.policy, g.address) }

const loopback = "127.0.0.1:0"

// plain and soft are groups of plain TCP, and of iWARP in software.
func plain(n int) group { return group{n, iwarp.OffloadAuto, loopback} }
func soft(n int) group  { return group{n, iwarp.OffloadRequire, loopback} }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child has connections, groups of them, and says what Describe does.
func child(groups string) {
	listeners := make(map[string]net.Listener)
	var conns []net.Conn
	for word := range strings.FieldsSeq(groups) {
		var g group
		_, err := fmt.Sscanf(strings.ReplaceAll(word, "/", " "), "%d %d %s", &g.n, &g.policy, &g.address)
		must(err)
		l := listeners[g.address]
		if l == nil {
			lc := iwarp.ListenConfig{FirstByteTimeout: time.Minute}
			l, err = lc.Listen(context.Background(), "tcp", g.address)
			must(err)
			listeners[g.address] = l
		}
		for range g.n {
			conns = append(conns, connect(l, g.policy, 1000+len(conns)/2)...)
		}
	}
	_, err := iwarp.DefaultPortSpace.Reserve(context.Background(), "tcp", "127.0.0.1:0")
	must(err)
	var list []described
	for _, c := range conns {
		info, ok := iwarp.Describe(c)
		if !ok {
			os.Exit(1)
		}
		d := described{c.LocalAddr().String(), c.RemoteAddr().String(), info.Transport, "", info.Device, info.Offloaded}
		if info.Reason != iwarp.ReasonNone {
			d.Reason = info.Reason.String()
		}
		list = append(list, d)
	}
	must(json.NewEncoder(os.Stdout).Encode(list))
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		must(conns[0].Close())
		fmt.Println("closed")
	}
}

// connect returns both ends of a connection, over which n bytes have gone.
func connect(l net.Listener, policy iwarp.Offload, n int) []net.Conn {
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	d := iwarp.Dialer{Offload: policy}
	c, err := d.Dial("tcp", l.Addr().String())
	must(err)
	_, err = c.Write(make([]byte, n))
	must(err)
	s := <-accepted
	_, err = io.ReadFull(s, make([]byte, n))
	must(err)
	return []net.Conn{c, s}
}

type program struct {
	*exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	list []described
}

func start(t testing.TB, groups ...group) *program {
	exe, err := os.Executable()
	require.NoError(t, err)
	p := &program{Cmd: exec.Command(exe)}
	p.Env = append(os.Environ(), childVariable+"="+strings.Trim(fmt.Sprint(groups), "[]"))
	p.Stderr = os.Stderr
	p.in, err = p.StdinPipe()
	require.NoError(t, err)
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	p.out = bufio.NewReader(out)
	line, err := p.out.ReadBytes('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(line, &p.list))
	return p
}

// TestAgrees finds all connections of another process, and says what the process itself does.
func TestAgrees(t *testing.T) {
	const plains, softs = 40, 30
	p := start(t, plain(plains), soft(softs))
	r, err := collect([]int{p.Process.Pid}, 0)
	require.NoError(t, err)
	require.Len(t, r.Processes, 1)
	require.Len(t, r.Connections, 2*(plains+softs))
	found := make(map[string]connection)
	for _, c := range r.Connections {
		found[c.Local.String()+" "+c.Peer.String()] = c
	}
	paths := make(map[string]int)
	for i, want := range p.list {
		c, ok := found[want.Local+" "+want.Remote]
		require.True(t, ok, want)
		require.Equal(t, want, described{want.Local, want.Remote, c.Path, c.Reason, c.Device, c.Offloaded})
		require.Equal(t, "established", c.State)
		require.Equal(t, p.Process.Pid, c.PID)
		require.Equal(t, i%2 == 1, c.Accepted)
		sent := []uint64{c.BytesOut, c.BytesIn}[i%2]
		require.EqualValues(t, 1000+i/2, sent)
		require.NotNil(t, c.TCP)
		require.Equal(t, "established", c.TCP.State)
		require.Positive(t, c.TCP.RoundTrip)
		paths[c.Path]++
	}
	require.Equal(t, map[string]int{"tcp": 2 * plains, "soft": 2 * softs}, paths)
	require.Len(t, r.Listeners, 1)
	require.EqualValues(t, plains, r.Listeners[0].PlainTCP)
	require.EqualValues(t, softs, r.Listeners[0].IWARP)
	require.Len(t, r.Ports, 1)
	require.Equal(t, "idle", r.Ports[0].State)

	// A connection of plain TCP that is closed is not listed, although its record may last.
	_, err = io.WriteString(p.in, "close\n")
	require.NoError(t, err)
	_, err = p.out.ReadString('\n')
	require.NoError(t, err)
	r, err = collect([]int{p.Process.Pid}, 0)
	require.NoError(t, err)
	require.Len(t, r.Connections, 2*(plains+softs)-1)
}

// TestStoppedAndKilled shows a process that does nothing, and nothing of one that is dead.
func TestStoppedAndKilled(t *testing.T) {
	p := start(t, plain(2), soft(2))
	require.NoError(t, p.Process.Signal(syscall.SIGSTOP))
	var r *report
	require.Eventually(t, func() (stopped bool) { // the signal takes its time
		var err error
		r, err = collect([]int{p.Process.Pid}, 0)
		require.NoError(t, err)
		return r.Processes[0].Stopped
	}, 20*time.Second, time.Millisecond)
	require.Len(t, r.Connections, 8)
	require.Contains(t, whose(r.Connections[0].process), ", stopped)")
	require.NoError(t, p.Process.Kill())
	killed := time.Now()
	for left := true; left; { // also before its parent has asked for its end
		var err error
		r, err = collect(nil, 0)
		require.NoError(t, err)
		own := func(pid int) bool { return pid == p.Process.Pid }
		left = slices.ContainsFunc(r.Connections, func(c connection) bool { return own(c.PID) }) ||
			slices.ContainsFunc(r.Listeners, func(l listener) bool { return own(l.PID) }) ||
			slices.ContainsFunc(r.Ports, func(i port) bool { return own(i.PID) }) ||
			slices.ContainsFunc(r.Processes, func(i process) bool { return own(i.PID) })
		require.Less(t, time.Since(killed), 20*time.Second)
	}
	t.Log("nothing left after", time.Since(killed))
}

// TestDevices is TestAgrees with connections by devices as well. What the kernel knows of those is
// joined, and is not listed as another program's.
func TestDevices(t *testing.T) {
	if *siw == "" || *rxe == "" {
		t.Skip("only with -siw and -rxe")
	}
	p := start(t, plain(40), soft(30), group{20, iwarp.OffloadRequire, *rxe + ":0"}, group{10, iwarp.OffloadRequire, *siw + ":0"})
	paths, joined := make(map[string]int), make(map[string]int)
	agree := func() {
		var out, errs bytes.Buffer
		began := time.Now()
		require.Equal(t, exitFound, run([]string{"--json", "--pid", fmt.Sprint(p.Process.Pid)}, &out, &errs), errs.String())
		t.Log("looked for", time.Since(began))
		var r report
		require.NoError(t, json.Unmarshal(out.Bytes(), &r))
		require.Len(t, r.Connections, 200)
		require.Empty(t, r.RDMA)
		require.Empty(t, errs.String())
		found := make(map[string]connection)
		for _, c := range r.Connections {
			found[c.Local.String()+" "+c.Peer.String()] = c
		}
		clear(paths)
		for i, want := range p.list {
			c, ok := found[want.Local+" "+want.Remote]
			require.True(t, ok, want)
			require.Equal(t, want, described{want.Local, want.Remote, c.Path, c.Reason, c.Device, c.Offloaded})
			require.Equal(t, "established", c.State)
			require.EqualValues(t, 1000+i/2, []uint64{c.BytesOut, c.BytesIn}[i%2])
			if paths[c.Path+" "+c.Device]++; c.Path == "rnic" {
				joined[fmt.Sprint(c.Device, " accepted: ", c.Accepted, " joined: ", c.QPN != 0)]++
			}
		}
	}
	agree()
	t.Log(paths, joined)
	n := map[string]int{}
	for path, k := range paths {
		n[strings.TrimRight(path, "0123456789")] += k
	}
	require.Equal(t, map[string]int{"tcp ": 80, "soft soft": 60, "rnic rxe": 40, "rnic siw": 20}, n)
	require.NoError(t, p.Process.Signal(syscall.SIGSTOP))
	agree()
	require.NoError(t, p.Process.Kill())
	killed := time.Now()
	for left := -1; left != 0; {
		r, err := collect(nil, 0)
		require.NoError(t, err)
		left = 0
		for _, c := range r.Connections {
			left += map[bool]int{true: 1}[c.PID == p.Process.Pid]
		}
		for _, v := range r.RDMA {
			left += map[bool]int{true: 1}[v.PID == p.Process.Pid]
		}
		took := time.Since(killed)
		t.Log(left, "left", took, "after the end")
		require.Less(t, took, 20*time.Second)
	}
}

// TestRun tries what a user types.
func TestRun(t *testing.T) {
	p := start(t, plain(2), soft(1))
	try := func(args ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		code = run(append(args, "--pid", fmt.Sprint(p.Process.Pid)), &o, &e)
		return code, o.String(), e.String()
	}
	for name, tt := range map[string]struct {
		args  []string
		code  int
		lines int      // of the output; -1 for any number
		has   []string // what is in there
	}{
		"list":          {nil, exitFound, 7, []string{"PATH", "soft", "no rdma device", "established"}},
		"one path":      {[]string{"path", "soft"}, exitFound, 3, nil},
		"not one path":  {[]string{"not", "path", "soft"}, exitFound, 5, nil},
		"fallback":      {[]string{"fallback", "and", "reason", "device"}, exitFound, 3, nil},
		"nothing":       {[]string{"port", "1"}, exitNothing, 0, nil},
		"address":       {[]string{"src", "127.0.0.0/8", "dst", "127.0.0.1"}, exitFound, 7, nil},
		"other address": {[]string{"addr", "192.0.2.0/24"}, exitNothing, 0, nil},
		"quiet":         {[]string{"-q", "path", "soft"}, exitFound, 0, nil},
		"quiet nothing": {[]string{"-q", "offloaded"}, exitNothing, 0, nil},
		"processes":     {[]string{"-p"}, exitFound, 7, []string{"PROCESS", fmt.Sprintf("(%d)", p.Process.Pid)}},
		"listening":     {[]string{"-l"}, exitFound, 5, []string{"LISTENER", "PORT", "idle", "auto"}},
		"all":           {[]string{"-a"}, exitFound, 13, []string{"LISTENER", "PATH"}},
		"details":       {[]string{"-i", "path", "soft"}, exitFound, -1, []string{"mpa revision 2", "rtt", "iwarp in software"}},
		"summary":       {[]string{"-s"}, exitFound, -1, []string{"6 connections of 1 process: 0 offloaded", "no rdma device", "dials since start"}},
		"quoted":        {[]string{"path soft and state established", "not", "sport", ":1"}, exitFound, 3, nil},
		"one word":      {[]string{"not path soft and dst 127.0.0.1", "fallback"}, exitFound, 5, nil},
		"nobody there":  {[]string{"dst", "127.0.0.1:1"}, exitNothing, 0, nil},
		"no time":       {[]string{"--watch=-1"}, exitFailed, 0, nil},
		"no directory":  {[]string{"man"}, exitFailed, 0, nil},
		"bad condition": {[]string{"colour", "red"}, exitFailed, 0, nil},
		"no value":      {[]string{"port"}, exitFailed, 0, nil},
		"no port":       {[]string{"port", "http"}, exitFailed, 0, nil},
		"bad flag":      {[]string{"--colour"}, exitFailed, 0, nil},
		"help":          {[]string{"--help"}, exitFound, -1, []string{"Conditions choose", "Examples:"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := try(tt.args...)
			require.Equal(t, tt.code, code, out+errs)
			if tt.lines >= 0 {
				require.Equal(t, tt.lines, strings.Count(out, "\n"), out)
			}
			for _, s := range tt.has {
				require.Contains(t, out, s)
			}
			quiet := tt.code == exitFound || slices.Contains(tt.args, "-q")
			require.Equal(t, !quiet, strings.HasPrefix(errs, "iwarpstat: "), errs)
		})
	}
	_, out, _ := try("--json")
	var r report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Len(t, r.Connections, 6)
	require.NotNil(t, r.Connections[0].TCP)
	timed := uint64(0)
	for _, n := range r.Times {
		timed += n.Count
	}
	require.GreaterOrEqual(t, timed, uint64(3)) // dials at least
}

// TestNothing says why nothing is listed.
func TestNothing(t *testing.T) {
	p := start(t, plain(1), soft(1))
	other := exec.Command("sleep", "1000")
	require.NoError(t, other.Start())
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	for _, tt := range []struct {
		pid  int
		args string
		code int
		want string
	}{
		{p.Process.Pid, "path sfot", exitNothing, "none of 4 connections meets the conditions; there are paths soft (2), tcp (2) and states established (4)"},
		{p.Process.Pid, "-l port 1", exitNothing, "none of 2 listeners or reserved ports meets the conditions"},
		{other.Process.Pid, "", exitNothing, fmt.Sprintf("sleep(%d) has no statistics page", other.Process.Pid)},
		{other.Process.Pid, "-s", exitNothing, "has no statistics page"},
		{other.Process.Pid, "-q", exitNothing, ""},
		{1 << 30, "", exitFailed, "no such process"},
	} {
		var out, errs bytes.Buffer
		require.Equal(t, tt.code, run(append(strings.Fields(tt.args), "--pid", fmt.Sprint(tt.pid)), &out, &errs), tt.args)
		if tt.want == "" {
			require.Empty(t, errs.String())
			continue
		}
		require.Contains(t, errs.String(), tt.want)
	}
	var errs bytes.Buffer
	(&options{}).explain(&report{Processes: make([]process, 2), unfiltered: inventory{listeners: 1}}, false, &errs)
	require.Equal(t, "iwarpstat: no connections; 2 programs that use the module were found, with 1 listener or reserved port (-l)\n", errs.String())
}

// TestWatch understands the time of -w with and without an equals sign, and none.
func TestWatch(t *testing.T) {
	for args, want := range map[string]string{
		"-w 2 path soft":    "2s path,soft",
		"path soft -pw 1.5": "1.5s path,soft",
		"--watch 500ms":     "500ms ",
		"--watch=3":         "3s ",
		"-w=3s port 1":      "3s port,1",
		"-w path soft":      "1s path,soft",
		"path soft":         "0s path,soft",
	} {
		cmd := command(io.Discard, io.Discard)
		require.NoError(t, cmd.ParseFlags(joinWatch(strings.Fields(args))), args)
		require.Equal(t, want, cmd.Flag("watch").Value.String()+" "+strings.Join(cmd.Flags().Args(), ","), args)
	}
}

// TestWatchInPipe writes text alone where the output is no terminal.
func TestWatchInPipe(t *testing.T) {
	var looks int
	var out bytes.Buffer
	o := options{watch: pace(time.Nanosecond)}
	done := errors.New("enough")
	err := o.live(func() (*report, error) {
		if looks++; looks > 2 {
			return nil, done
		}
		return &report{Time: time.Now()}, nil
	}, &out)
	require.ErrorIs(t, err, done)
	require.Equal(t, 2, strings.Count(out.String(), "  every 1ns\n"))
	require.NotContains(t, out.String(), "\x1b")
}

// countedWrites counts the system calls that a file would take.
type countedWrites struct{ n int }

func (c *countedWrites) Write(b []byte) (int, error) {
	c.n++
	return len(b), nil
}

// TestWrites writes a table in few pieces.
func TestWrites(t *testing.T) {
	p := start(t, plain(50))
	var out countedWrites
	require.Equal(t, exitFound, run([]string{"--pid", fmt.Sprint(p.Process.Pid)}, &out, io.Discard))
	require.Equal(t, 1, out.n)
}

// TestSelf does not count the program that looks.
func TestSelf(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), selfVariable+"=--json")
	out, err := cmd.Output()
	if err != nil { // it finds no connections
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	var r report
	require.NoError(t, json.Unmarshal(out, &r))
	require.False(t, slices.ContainsFunc(r.Processes, func(p process) bool { return p.PID == cmd.Process.Pid }))
}

// TestNetns lists nothing of a process that is in another network namespace than asked for.
func TestNetns(t *testing.T) {
	p := start(t, plain(1))
	pid := fmt.Sprint(p.Process.Pid)
	var out, errs bytes.Buffer
	require.Equal(t, exitFound, run([]string{"--pid", pid, "--netns", pid}, &out, &errs), errs.String())
	require.Equal(t, exitFailed, run([]string{"--pid", pid, "--netns", "no such namespace"}, &out, &errs))
	other := testkit.ProcessElsewhere(t)
	out.Reset()
	require.Equal(t, exitNothing, run([]string{"--pid", pid, "--netns", fmt.Sprint(other)}, &out, &errs))
}

func TestManual(t *testing.T) {
	dir := t.TempDir()
	require.Equal(t, exitFound, run([]string{"man", dir}, io.Discard, io.Discard))
	page, err := os.ReadFile(filepath.Join(dir, "iwarpstat.8"))
	require.NoError(t, err)
	require.Contains(t, string(page), "IWARPSTAT")
	var out bytes.Buffer
	require.Equal(t, exitFound, run([]string{"completion", "bash"}, &out, io.Discard))
	require.Contains(t, out.String(), "iwarpstat")
	out.Reset()
	require.Equal(t, exitFound, run([]string{"__complete", "state", ""}, &out, io.Discard))
	require.Contains(t, out.String(), "write-closed")
}

// TestProblem says what is wrong with a page.
func TestProblem(t *testing.T) {
	r := report{Problems: []problem{{process{PID: 7, Name: "new"}, (&statpage.VersionError{Version: 9}).Error()}}, Hidden: 2}
	var out bytes.Buffer
	r.remarks(&out)
	require.Contains(t, out.String(), "new(7): statistics page has version 9, this program reads version 1")
	require.Contains(t, out.String(), "2 processes may not be looked into")
}

// TestMany lists many connections of one process: go test -run Many -many 10000.
func TestMany(t *testing.T) {
	if *many == 0 {
		t.Skip("only with -many")
	}
	p := start(t, plain(*many/4), soft(*many/4))
	for range 5 {
		began := time.Now()
		var out bytes.Buffer
		require.Equal(t, exitFound, run([]string{"--pid", fmt.Sprint(p.Process.Pid)}, &out, io.Discard))
		t.Log(strings.Count(out.String(), "\n")-1, "connections in", time.Since(began))
	}
}
