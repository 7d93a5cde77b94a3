package sockdiag

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Owners looks in /proc for the processes that have the sockets with these inodes open. complete
// says whether it could look into all processes of the host: if so, an inode without a process
// belongs to the kernel itself. It is false where each inode has one.
func Owners(inodes ...uint32) (owners map[uint32]Process, complete bool) {
	s := search{wanted: make(map[string]uint32, len(inodes)), owners: make(map[uint32]Process)}
	for _, i := range inodes {
		if i != 0 {
			s.wanted["socket:["+strconv.FormatUint(uint64(i), 10)+"]"] = i
		}
	}
	s.lookInto(latest.list())
	if s.done() && len(s.wanted) == len(inodes) {
		return s.owners, false
	}
	pids, err := processes()
	s.complete = err == nil && !processesHidden()
	s.lookInto(pids)
	return s.owners, s.complete
}

// Elsewhere reports whether anybody has the socket with this inode beside one descriptor of this
// process. complete says whether it could look into all processes of the host.
func Elsewhere(inode uint32) (found, complete bool, err error) {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return false, false, err
	}
	link := "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
	if n, err := copies(link); err != nil || n > 1 {
		return n > 1, err == nil, err
	}
	s := search{wanted: map[string]uint32{link: inode}, owners: make(map[uint32]Process)}
	pids, err := processes()
	s.complete = err == nil && !processesHidden()
	s.lookInto(slices.DeleteFunc(pids, func(pid int) bool { return strconv.Itoa(pid) == self }))
	return s.done(), s.complete, err
}

// copies returns how many descriptors of this process are what the link says.
func copies(link string) (n int, err error) {
	const dir = "/proc/self/fd"
	fds, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fds)
	list, err := entries(fds)
	b := make([]byte, len(link)+1)
	for _, fd := range list {
		if size, err := unix.Readlinkat(fds, fd, b); err == nil && string(b[:size]) == link {
			n++
		}
	}
	return n, err
}

// A search for the processes of sockets.
type search struct {
	wanted   map[string]uint32 // inodes, by what the link of a descriptor says
	owners   map[uint32]Process
	complete bool // nothing has been out of sight
	link     [64]byte
}

func (s *search) done() bool { return len(s.owners) == len(s.wanted) }

func (s *search) lookInto(pids []int) {
	for _, pid := range pids {
		if s.done() {
			return
		}
		s.look(pid)
	}
}

// look looks into the descriptors of a process.
func (s *search) look(pid int) {
	dir := "/proc/" + strconv.Itoa(pid)
	fds, err := unix.Open(dir+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.complete = s.complete && isGone(err)
		return
	}
	defer unix.Close(fds)
	list, err := entries(fds)
	s.complete = s.complete && (err == nil || isGone(err))
	for _, fd := range list {
		n, err := unix.Readlinkat(fds, fd, s.link[:])
		if err != nil {
			s.complete = s.complete && isGone(err) // which takes more rights than listing it
			continue
		}
		inode, ok := s.wanted[string(s.link[:n])]
		if _, known := s.owners[inode]; !ok || known {
			continue
		}
		comm, _ := os.ReadFile(dir + "/comm")
		s.owners[inode] = Process{PID: pid, Name: string(bytes.TrimSuffix(comm, []byte("\n")))}
		latest.add(pid)
		if s.done() {
			return
		}
	}
}

// entries returns the names in a directory.
func entries(dir int) (list []string, err error) {
	b := make([]byte, 1<<12)
	for {
		n, err := unix.ReadDirent(dir, b)
		if err != nil || n <= 0 {
			return list, err
		}
		_, _, list = unix.ParseDirent(b[:n], -1, list)
	}
}

// latest are the processes in which sockets were last found. They are the likeliest to have the
// next, and a look into all of a host's processes takes time.
var latest found

// found are processes, the last found first.
type found struct {
	mu   sync.Mutex
	pids []int
}

const mostFound = 8

func (f *found) list() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.pids)
}

func (f *found) add(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.pids, pid); i >= 0 {
		f.pids = slices.Delete(f.pids, i, i+1)
	}
	f.pids = slices.Insert(f.pids, 0, pid)
	f.pids = f.pids[:min(len(f.pids), mostFound)]
}

// isGone reports whether the process or its descriptor no longer exists.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// initialPIDNamespace is the inode of the PID namespace that has all processes of the host
// (PROC_PID_INIT_INO).
const initialPIDNamespace = 0xeffffffc

// processesHidden reports whether /proc may lack processes: those outside the PID namespace or,
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

// processes lists those that can be seen.
func processes() (pids []int, err error) {
	proc, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(proc)
	list, err := entries(proc)
	for _, name := range list {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}
