package shm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
)

// peerCred returns the credentials of the process at the other end of a Unix socket.
func peerCred(raw syscall.RawConn) (unix.Ucred, error) {
	var cred *unix.Ucred
	var err error
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return unix.Ucred{}, cerr
	}
	if err != nil {
		return unix.Ucred{}, os.NewSyscallError("getsockopt", err)
	}
	return *cred, nil
}

// An untrustedError says why whoever has the meeting place of a service is not taken for it.
type untrustedError struct{ why string }

func (e *untrustedError) Error() string {
	return transport.ErrNoRoute.Error() + ": shared memory is not used: " + e.why
}

func (e *untrustedError) Unwrap() error { return transport.ErrNoRoute }

// known remembers for a moment who was trusted and who was not, as a program may dial one service
// many times.
var known knownPeers

const (
	trustTTL  = time.Second
	mostKnown = 256
	// movingTTL is how long a service counts as one that may be handed over to another process.
	movingTTL = 10 * time.Second
)

type knownPeers struct {
	mu  sync.Mutex
	m   map[knownPeer]verdict
	met map[site]time.Time // when somebody was trusted there last
}

// knownPeer is a process that has been seen to have the listener at a place, or not to have it.
type knownPeer struct {
	site
	pid int32
	uid uint32
}

type verdict struct {
	err   error // why it is not trusted
	until time.Time
}

// check returns nil if the process at the other end of c can be trusted to have the listener at p.
func (k *knownPeers) check(c *net.UnixConn, at site) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	cred, err := peerCred(raw)
	if err != nil {
		return err
	}
	return k.judge(raw, cred, at)
}

// trusts is check for a link.
func (k *knownPeers) trusts(of *link, at site) bool { return k.judge(of.raw, of.cred, at) == nil }

func (k *knownPeers) judge(raw syscall.RawConn, cred unix.Ucred, at site) error {
	p := knownPeer{at, cred.Pid, cred.Uid}
	k.mu.Lock()
	v, ok := k.m[p]
	k.mu.Unlock()
	if ok && time.Now().Before(v.until) {
		return v.err
	}
	process := peerProcess(raw)
	v.err = trust(cred, process, at.at)
	process.close()
	if isLack(v.err) {
		return v.err
	}
	v.until = time.Now().Add(trustTTL)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil || len(k.m) >= mostKnown {
		k.m = make(map[knownPeer]verdict)
	}
	k.m[p] = v
	if v.err == nil {
		if k.met == nil || len(k.met) >= mostKnown {
			k.met = make(map[site]time.Time)
		}
		k.met[at] = time.Now()
	}
	return v.err
}

// movesOn reports whether a service that cannot be met is still there, and was met lately.
func (k *knownPeers) movesOn(at site) bool {
	k.mu.Lock()
	met, ok := k.met[at]
	k.mu.Unlock()
	if !ok || time.Since(met) > movingTTL {
		return false
	}
	_, err := listenerAt(at.at)
	return err == nil
}

// A process is a descriptor of the process at the other end of a socket, which does not become that
// of another with the same number.
type process struct {
	fd   int // -1 if the kernel gives none
	gone bool
}

const soPeerPIDFD = 77 // SO_PEERPIDFD of Linux 6.5

func peerProcess(raw syscall.RawConn) process {
	p := process{fd: -1}
	_ = raw.Control(func(fd uintptr) {
		got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, soPeerPIDFD)
		switch err {
		case nil:
			p.fd = got
		case unix.ENOPROTOOPT:
		default:
			p.gone = !isLack(err)
		}
	})
	return p
}

// isGone reports whether the process has ended, so that another may have its number.
func (p process) isGone() bool {
	return p.gone || p.fd >= 0 && unix.PidfdSendSignal(p.fd, 0, nil, 0) == unix.ESRCH
}

func (p process) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
	}
}

// trust returns nil if the process has the TCP listener that takes connections to remote, as far as
// that can be seen.
func trust(cred unix.Ucred, p process, remote netip.AddrPort) error {
	l, err := listenerAt(remote)
	if errors.Is(err, errNoListener) {
		return &untrustedError{err.Error()}
	}
	if isLack(err) {
		return err
	}
	if err != nil {
		return &untrustedError{fmt.Sprintf("whose the tcp port is cannot be found out: %v", err)}
	}
	holds, known, err := owners.holds(cred.Pid, l.inode)
	if err != nil {
		return err
	}
	if p.isGone() { // after that: what was seen may be of another
		known = false
	}
	switch {
	case known && holds:
		return nil
	case known:
		return &untrustedError{"another process has the tcp port"}
	case cred.Uid != l.uid:
		return &untrustedError{"another user has the tcp port"}
	case cred.Uid == overflowUID():
		return &untrustedError{"the user who has the tcp port is not known in this user namespace"}
	}
	return nil
}

// overflowUID is what the kernel calls users that a namespace does not know.
var overflowUID = sync.OnceValue(func() uint32 {
	b, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if n, perr := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err == nil && perr == nil {
		return uint32(n)
	}
	return 65534
})

// owners remembers where processes have their listening sockets, as looking through all of a
// process's descriptors may take long. What is remembered is checked again before it counts.
var owners ownerCache

type ownerCache struct {
	mu sync.Mutex
	m  map[ownerKey]string
}

type ownerKey struct {
	pid   int32
	inode uint32
}

const mostOwners = 256

// holds reports whether a process has a socket, if that can be seen. An error is a lack of ours.
func (o *ownerCache) holds(pid int32, inode uint32) (yes, known bool, err error) {
	if pid <= 0 {
		return false, false, nil // it is in a namespace that cannot be seen from here
	}
	dir := "/proc/" + strconv.Itoa(int(pid)) + "/fd/"
	if pid == int32(os.Getpid()) {
		dir = "/proc/self/fd/"
	}
	want := "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
	key := ownerKey{pid, inode}
	o.mu.Lock()
	name, ok := o.m[key]
	o.mu.Unlock()
	if ok {
		if link, err := os.Readlink(dir + name); err == nil && link == want {
			return true, true, nil
		}
	}
	d, err := os.Open(dir)
	if isLack(err) {
		return false, false, err
	}
	if err != nil {
		return false, false, nil
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close()
	if err != nil {
		return false, false, nil
	}
	for _, name := range names {
		link, err := os.Readlink(dir + name)
		if errors.Is(err, os.ErrPermission) {
			return false, false, nil
		}
		if link == want {
			o.keep(key, name)
			return true, true, nil
		}
	}
	return false, true, nil
}

func (o *ownerCache) keep(key ownerKey, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m == nil || len(o.m) >= mostOwners {
		o.m = make(map[ownerKey]string)
	}
	o.m[key] = name
}
