package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/sockdiag"
)

// askKernel asks for the sockets of the network namespace of a process.
func askKernel(pid int, netns uint64) *kernel {
	if own, _ := inodeOf("/proc/thread-self/ns/net"); netns == 0 || own == netns {
		return query()
	}
	result := make(chan *kernel, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends with the goroutine
		result <- queryIn(pid, netns)
	}()
	return <-result
}

func query() *kernel {
	list, err := sockdiag.QueryDetailed()
	return kernelOf(list, err == nil && sockdiag.BoundVisible(), err)
}

func queryIn(pid int, netns uint64) *kernel {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return kernelOf(nil, false, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != netns {
		return kernelOf(nil, false, fmt.Errorf("process %d has another network namespace by now", pid))
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return kernelOf(nil, false, err)
	}
	return query()
}

func inodeOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

// netnsOf returns the network namespace that a name stands for: one of ip-netns(8), the number of a
// process, or a path.
func netnsOf(name string) (uint64, error) {
	if pid, err := strconv.Atoi(name); err == nil {
		return inodeOf("/proc/" + strconv.Itoa(pid) + "/ns/net")
	}
	if filepath.IsAbs(name) {
		return inodeOf(name)
	}
	return inodeOf(filepath.Join("/run/netns", name))
}
