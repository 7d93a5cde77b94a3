package sockdiag

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Owners looks in /proc for the processes that have the sockets with these inodes open. It reports
// whether it could look into all processes of the host: if so, an inode without a process belongs
// to the kernel itself.
func Owners(inodes ...uint32) (owners map[uint32]Process, complete bool) {
	wanted := make(map[string]uint32, len(inodes))
	for _, i := range inodes {
		if i != 0 {
			wanted["socket:["+strconv.FormatUint(uint64(i), 10)+"]"] = i
		}
	}
	owners = make(map[uint32]Process)
	pids, err := names("/proc")
	complete = err == nil && !processesHidden()
	for _, name := range pids {
		if len(owners) == len(wanted) {
			break
		}
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		dir := "/proc/" + name + "/fd/"
		fds, err := names(dir)
		complete = complete && (err == nil || isGone(err))
		for _, fd := range fds {
			link, err := os.Readlink(dir + fd)
			complete = complete && (err == nil || isGone(err)) // which takes more than to list it
			inode, ok := wanted[link]
			if _, known := owners[inode]; !ok || known {
				continue
			}
			comm, _ := os.ReadFile("/proc/" + name + "/comm")
			owners[inode] = Process{PID: pid, Name: string(bytes.TrimSuffix(comm, []byte("\n")))}
		}
	}
	return owners, complete
}

// isGone reports whether the process or its descriptor is not there any more.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// initialPIDNamespace is the inode of the PID namespace that has all processes of the host
// (PROC_PID_INIT_INO).
const initialPIDNamespace = 0xeffffffc

// processesHidden reports whether /proc may lack processes: those outside of the PID namespace, or,
// where it is mounted with the option hidepid, those of other users.
func processesHidden() bool {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil || st.Ino != initialPIDNamespace {
		return true
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return true
	}
	hides := false
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 5 && f[4] == "/proc" { // the last one is on top
			hides = strings.Contains(line, "hidepid=") && !strings.Contains(line, "hidepid=0") && !strings.Contains(line, "hidepid=off")
		}
	}
	return hides && !mayTrace()
}

// mayTrace reports whether the process has CAP_SYS_PTRACE, to which hidepid does not apply.
func mayTrace() bool {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return caps>>unix.CAP_SYS_PTRACE&1 != 0
		}
	}
	return false
}

func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
