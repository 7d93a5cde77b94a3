package limits

import (
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func system() uint64 {
	n := uint64(math.MaxUint64)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		n = uint64(info.Totalram) * uint64(info.Unit)
	}
	return min(n, cgroup(os.DirFS("/")))
}

// cgroup returns the lowest limit of the process's cgroup and of those around it, in version 1 or
// 2. A container may see its own as the root.
func cgroup(root fs.FS) uint64 {
	least := uint64(math.MaxUint64)
	b, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		var at, file string
		switch {
		case f[1] == "":
			at, file = "sys/fs/cgroup", "memory.max"
		case f[1] == "memory":
			at, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := path.Join(at, f[2]); ; dir = path.Dir(dir) {
			least = min(least, limit(root, path.Join(dir, file)))
			if len(dir) <= len(at) {
				break
			}
		}
	}
	return least
}

// limit returns what a file says, if that is a number.
func limit(root fs.FS, name string) uint64 {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return n
}
