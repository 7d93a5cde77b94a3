package faults

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A denial has system calls of another process fail, as they do where the system is short of
// something, for as long as the test wants. The kernel asks about each of them (seccomp user
// notification, Linux 5.0).
type denial struct {
	fd    int // the kernel's questions come here
	mu    sync.Mutex
	call  int32 // that fails, or -1
	errno unix.Errno
	count int
}

// What the kernel asks and is answered (linux/seccomp.h), which x/sys/unix does not have.
type (
	question struct {
		id          uint64
		pid, flags  uint32
		call        int32
		arch        uint32
		instruction uint64
		args        [6]uint64
	}
	answer struct {
		id    uint64
		val   int64
		errno int32
		flags uint32
	}
)

const goOn = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE

// startDenied starts c in the hands of a denial, which can have any of the calls fail, of which
// epoll_ctl only where it adds a descriptor, and those that write only on sockets.
func startDenied(t *testing.T, c *exec.Cmd, calls ...uint32) *denial {
	t.Helper()
	d := &denial{call: -1}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread has the filter, too, and ends with the goroutine
		err := d.install(calls)
		if err == nil {
			err = c.Start()
		}
		started <- err
	}()
	require.NoError(t, <-started)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		d.answer(stop)
	}()
	t.Cleanup(func() {
		close(stop)
		<-ended
		_ = unix.Close(d.fd)
	})
	return d
}

// install filters the calls of this thread, and of what it starts.
func (d *denial) install(calls []uint32) error {
	const number, operation = 0, 24 // in struct seccomp_data, of the call and of its second argument
	jump := func(v uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: v, Jt: yes, Jf: no}
	}
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	verdict := func(v uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v} }
	prog := []unix.SockFilter{load(number), jump(unix.SYS_EPOLL_CTL, 0, 2), load(operation), jump(unix.EPOLL_CTL_ADD, uint8(len(calls)+1), uint8(len(calls)))}
	for i, n := range calls {
		prog = append(prog, jump(n, uint8(len(calls)-i), 0))
	}
	prog = append(prog, verdict(unix.SECCOMP_RET_ALLOW), verdict(unix.SECCOMP_RET_USER_NOTIF))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: unsafe.SliceData(prog)}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return errno
	}
	d.fd = int(fd)
	return nil
}

// answer says of each call whether it fails.
func (d *denial) answer(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		p := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, 10); n == 0 || err != nil {
			continue
		}
		if p[0].Revents&unix.POLLIN == 0 { // the process has ended
			return
		}
		var q question
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&q))); errno != 0 {
			continue // a signal has interrupted the call
		}
		a := answer{id: q.id, flags: goOn}
		d.mu.Lock()
		if writes(d.call) && writes(q.call) && ofSocket(q.pid, q.args[0]) || !writes(d.call) && q.call == d.call {
			a.flags, a.errno = 0, -int32(d.errno)
			d.count++
		}
		d.mu.Unlock()
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
	}
}

func writes(call int32) bool {
	return call == unix.SYS_WRITE || call == unix.SYS_WRITEV || call == unix.SYS_SENDMSG
}

// ofSocket reports whether a descriptor is a socket, and not one of the runtime's.
func ofSocket(pid uint32, fd uint64) bool {
	name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	return strings.HasPrefix(name, "socket:")
}

// begin has a call fail from now on; one that writes stands for all that do.
func (d *denial) begin(call uint32, errno unix.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.call, d.errno, d.count = int32(call), errno, 0
}

// end has all calls go on, and returns how many have failed.
func (d *denial) end() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.call = -1
	return d.count
}

// met waits until some calls have failed.
func (d *denial) met(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.count >= n
	}, hang, time.Millisecond)
}
