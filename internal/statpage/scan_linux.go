package statpage

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Scan looks into the processes, or into all that /proc shows.
func Scan(pids ...int) (c Census, err error) {
	all := len(pids) == 0
	if all {
		if pids, err = processes(); err != nil {
			return c, err
		}
	}
	seen := make(map[uint64]bool)
	for _, pid := range pids {
		p, found, err := look(pid, seen)
		switch {
		case errors.Is(err, fs.ErrPermission):
			if isProgram(pid) {
				c.Hidden++
			}
		case err != nil && !all:
			return c, err
		case found:
			c.Processes = append(c.Processes, p)
		}
	}
	return c, nil
}

func processes() (pids []int, err error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, err
}

// isProgram is false for the kernel's own threads, and for what has ended.
func isProgram(pid int) bool {
	b, err := os.ReadFile(dirOf(pid) + "/cmdline")
	return err == nil && len(b) > 0
}

func dirOf(pid int) string { return "/proc/" + strconv.Itoa(pid) }

// look reads the page of a process, unless it was seen in another, as while that starts a program.
func look(pid int, seen map[uint64]bool) (p Process, found bool, err error) {
	dir, err := os.Open(dirOf(pid) + "/fd")
	if err != nil {
		return p, false, err
	}
	defer dir.Close()
	var link [64]byte
	for err == nil {
		var names []string
		names, err = dir.Readdirnames(256)
		for _, name := range names {
			n, lerr := unix.Readlinkat(int(dir.Fd()), name, link[:])
			if lerr == unix.EACCES || lerr == unix.EPERM {
				return p, false, &fs.PathError{Op: "readlink", Path: dir.Name(), Err: lerr}
			}
			if lerr != nil || string(link[:n]) != "/memfd:"+fileName+" (deleted)" {
				continue
			}
			if p, found = readFrom(pid, dir, name, seen); found {
				return p, true, nil
			}
		}
	}
	return p, false, nil
}

// readFrom reads the page that is open as the descriptor of that name.
func readFrom(pid int, dir *os.File, name string, seen map[uint64]bool) (p Process, ok bool) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return p, false // it was closed, or the process has ended
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || seen[st.Ino] {
		return p, false
	}
	seen[st.Ino] = true
	p = Process{PID: pid, Name: comm(pid)}
	if unix.Stat(dirOf(pid), &st) == nil {
		p.UID = st.Uid
	}
	if unix.Stat(dirOf(pid)+"/ns/net", &st) == nil {
		p.Netns = st.Ino
	}
	p.Page, p.Err = Read(f)
	if p.Err != nil {
		p.Page = nil
	}
	return p, true
}

func comm(pid int) string {
	b, _ := os.ReadFile(dirOf(pid) + "/comm")
	return printable(strings.TrimSuffix(string(bytes.ToValidUTF8(b, nil)), "\n"))
}
