package sockdiag

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Owners looks in /proc for the processes that have the sockets with these inodes open. It reports whether it could
// look into all that it saw: if so, an inode without a process belongs to the kernel itself, or to another PID namespace.
func Owners(inodes ...uint32) (owners map[uint32]Process, complete bool) {
	wanted := make(map[string]uint32, len(inodes))
	for _, i := range inodes {
		if i != 0 {
			wanted["socket:["+strconv.FormatUint(uint64(i), 10)+"]"] = i
		}
	}
	owners = make(map[uint32]Process)
	pids, err := names("/proc")
	complete = err == nil
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
		if errors.Is(err, fs.ErrPermission) {
			complete = false
		}
		for _, fd := range fds {
			link, err := os.Readlink(dir + fd)
			if err != nil || !strings.HasPrefix(link, "socket:[") {
				continue
			}
			inode, ok := wanted[link]
			if _, known := owners[inode]; !ok || known {
				continue
			}
			comm, _ := os.ReadFile("/proc/" + name + "/comm")
			owners[inode] = Process{PID: pid, Name: string(bytes.TrimSpace(comm))}
		}
	}
	return owners, complete
}

func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
