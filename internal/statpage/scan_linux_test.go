package statpage_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/statpage"
)

// others returns what another process would see of this one.
func others(t *testing.T) []statpage.Entry {
	c, err := statpage.Scan(os.Getpid())
	require.NoError(t, err)
	if len(c.Processes) == 0 { // nothing has been opened yet
		return nil
	}
	require.NoError(t, c.Processes[0].Err)
	return c.Processes[0].Page.Entries
}

const childEnv = "STATPAGE_TEST_CHILD"

// TestChild is the program of the other tests' processes: it opens records until its input ends.
func TestChild(t *testing.T) {
	n := 0
	if _, err := fmt.Sscan(os.Getenv(childEnv), &n); err != nil {
		t.Skip("it is for other tests")
	}
	for i := range n {
		statpage.OpenConn(&statpage.Traits{Text: fmt.Sprint("child ", i), Transport: "soft"})
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// child starts a process with n records.
func child(t testing.TB, n int, change func(*exec.Cmd)) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), fmt.Sprint(childEnv, "=", n))
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	if change != nil {
		change(cmd)
	}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for s := bufio.NewScanner(out); s.Scan(); {
		if s.Text() == "ready" {
			return cmd
		}
	}
	t.Fatal("child has ended")
	return nil
}

func scanOne(t testing.TB, pid int) statpage.Process {
	c, err := statpage.Scan(pid)
	require.NoError(t, err)
	require.Len(t, c.Processes, 1)
	require.NoError(t, c.Processes[0].Err)
	return c.Processes[0]
}

func TestScan(t *testing.T) {
	cmd := child(t, 300, nil)
	c, err := statpage.Scan()
	require.NoError(t, err)
	found := false
	for _, p := range c.Processes {
		if p.PID != cmd.Process.Pid {
			continue
		}
		found = true
		require.NoError(t, p.Err)
		require.Len(t, p.Page.Entries, 300)
		require.EqualValues(t, p.PID, p.Page.PID)
		require.EqualValues(t, os.Getuid(), p.UID)
		require.NotEmpty(t, p.Name)
		require.Equal(t, p.Netns, p.Page.Netns)
		require.Equal(t, "child 7", p.Page.Entries[7].Text)
	}
	require.True(t, found)
}

// TestScanStopped reads the page of a process that does nothing, and finds nothing once it is dead.
func TestScanStopped(t *testing.T) {
	cmd := child(t, 3, nil)
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	require.Len(t, scanOne(t, cmd.Process.Pid).Page.Entries, 3)
	require.NoError(t, cmd.Process.Kill())
	_, _ = cmd.Process.Wait()
	c, err := statpage.Scan()
	require.NoError(t, err)
	for _, p := range c.Processes {
		require.NotEqual(t, cmd.Process.Pid, p.PID)
	}
}

func TestScanOff(t *testing.T) {
	cmd := child(t, 3, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "IWARP_STATS=off") })
	c, err := statpage.Scan(cmd.Process.Pid)
	require.NoError(t, err)
	require.Empty(t, c.Processes)
}

// TestScanInherited has a page that two processes have open found once.
func TestScanInherited(t *testing.T) {
	tr := traits()
	defer statpage.OpenConn(&tr).Free()
	fd, err := unix.Dup(statpage.OwnFile())
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "page")
	defer f.Close()
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{f}
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	c, err := statpage.Scan(os.Getpid(), cmd.Process.Pid)
	require.NoError(t, err)
	require.Len(t, c.Processes, 1)
	require.Equal(t, os.Getpid(), c.Processes[0].PID)
}

// TestSealed has nobody who opens the page change it.
func TestSealed(t *testing.T) {
	tr := traits()
	defer statpage.OpenConn(&tr).Free()
	f, err := os.OpenFile(fmt.Sprint("/proc/self/fd/", statpage.OwnFile()), os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	require.Error(t, f.Truncate(0))
	_, err = f.WriteAt([]byte("x"), 0)
	require.Error(t, err)
	_, err = unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.Error(t, err)
}

// TestScanHidden says that there are processes that may not be looked into.
func TestScanHidden(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	cmd := child(t, 1, nil)
	exe, err := os.Executable()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("/var/tmp", "statpage")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, exec.Command("cp", exe, dir+"/other.test").Run())
	other := exec.Command(dir+"/other.test", "-test.run=^TestOther$", "-test.v")
	other.Dir = "/"
	other.Env = append(os.Environ(), fmt.Sprint(otherEnv, "=", cmd.Process.Pid))
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := other.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "hidden as it should be")
}

const otherEnv = "STATPAGE_TEST_OTHER"

// TestOther is the program of another user.
func TestOther(t *testing.T) {
	pid := 0
	if _, err := fmt.Sscan(os.Getenv(otherEnv), &pid); err != nil {
		t.Skip("it is for another test")
	}
	c, err := statpage.Scan(pid)
	require.NoError(t, err)
	require.Empty(t, c.Processes)
	require.Equal(t, 1, c.Hidden)
	c, err = statpage.Scan()
	require.NoError(t, err)
	require.Positive(t, c.Hidden)
	fmt.Println("hidden as it should be")
}

// TestScanMany reads ten thousand records. On a machine that is busy it may take several tries to
// do so in the time that they are allowed.
func TestScanMany(t *testing.T) {
	const many = 10000
	cmd := child(t, many, nil)
	const most = 2 * time.Second
	fastest := time.Hour
	for range 10 {
		began := time.Now()
		require.Len(t, scanOne(t, cmd.Process.Pid).Page.Entries, many)
		if fastest = min(fastest, time.Since(began)); fastest < most {
			break
		}
	}
	t.Log(fastest)
	require.Less(t, fastest, most)
}

func BenchmarkScanMany(b *testing.B) {
	cmd := child(b, 10000, nil)
	for b.Loop() {
		scanOne(b, cmd.Process.Pid)
	}
}
