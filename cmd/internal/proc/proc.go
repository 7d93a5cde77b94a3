// Package proc reads what /proc tells everybody of a process. Where there is no /proc, or no such
// process, little is known.
package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// Leader returns the process of a thread, which is what the kernel names as the maker of an object
// of RDMA.
func Leader(thread uint32) int {
	if v, ok := field(int(thread), "Tgid:"); ok {
		if pid, err := strconv.Atoi(v); err == nil {
			return pid
		}
	}
	return int(thread)
}

// User returns the effective user of a process.
func User(pid int) (uid uint32, ok bool) {
	v, ok := field(pid, "Uid:")
	if f := strings.Fields(v); ok && len(f) > 1 {
		n, err := strconv.ParseUint(f[1], 10, 32)
		return uint32(n), err == nil
	}
	return 0, false
}

func field(pid int, name string) (string, bool) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// Stopped reports whether a process runs no code until somebody lets it: after SIGSTOP, or in a
// debugger.
func Stopped(pid int) bool {
	state, _ := field(pid, "State:")
	return strings.HasPrefix(state, "T") || strings.HasPrefix(state, "t")
}

// Name returns the name that a process has chosen, fit to be printed.
func Name(pid int) string {
	comm, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	name := strings.TrimSuffix(string(comm), "\n")
	if name == "" {
		return "?"
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}

// Netns returns what identifies the network namespace of a process, or of the calling thread for 0.
// It takes the rights to debug the process; 0 means that they are not there.
func Netns(pid int) uint64 {
	who := "thread-self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	link, err := os.Readlink("/proc/" + who + "/ns/net")
	if err != nil {
		return 0
	}
	var inode uint64
	if _, err := fmt.Sscanf(link, "net:[%d]", &inode); err != nil {
		return 0
	}
	return inode
}

// Elsewhere reports whether a process is known to be in another network namespace than the calling
// thread. It takes no rights, where /proc is mounted without hidepid.
func Elsewhere(pid int) bool {
	here, ok := inode("/proc/thread-self/net/dev")
	there, known := inode("/proc/" + strconv.Itoa(pid) + "/net/dev")
	return ok && known && here != there
}
