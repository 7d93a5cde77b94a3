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

// known remembers for a moment who was trusted, as a program may dial one service many times.
var known knownPeers

const (
	trustTTL  = time.Second
	mostKnown = 256
)

type knownPeers struct {
	mu sync.Mutex
	m  map[knownPeer]knownSource
}

// knownPeer is a process that has been seen to have the listener at an address.
type knownPeer struct {
	remote netip.AddrPort
	pid    int32
	uid    uint32
}

type knownSource struct {
	addr  netip.Addr
	until time.Time
}

// source returns the address that a connection to remote comes from, if the process at the other
// end of c can be trusted.
func (k *knownPeers) source(c *net.UnixConn, remote netip.AddrPort) (netip.Addr, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.Addr{}, err
	}
	cred, err := peerCred(raw)
	if err != nil {
		return netip.Addr{}, err
	}
	p := knownPeer{remote, cred.Pid, cred.Uid}
	k.mu.Lock()
	s, ok := k.m[p]
	k.mu.Unlock()
	if ok && time.Now().Before(s.until) {
		return s.addr, nil
	}
	if err := trust(cred, remote); err != nil {
		return netip.Addr{}, err
	}
	s.addr, err = sourceFor(remote)
	if err != nil {
		return netip.Addr{}, err
	}
	s.until = time.Now().Add(trustTTL)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil || len(k.m) >= mostKnown {
		k.m = make(map[knownPeer]knownSource)
	}
	k.m[p] = s
	return s.addr, nil
}

// trust returns nil if the process has the TCP listener that takes connections to remote, as far as
// that can be seen.
func trust(cred unix.Ucred, remote netip.AddrPort) error {
	l, err := listenerAt(remote)
	if errors.Is(err, errNoListener) {
		return &untrustedError{err.Error()}
	}
	if err != nil {
		return &untrustedError{fmt.Sprintf("whose the tcp port is cannot be found out: %v", err)}
	}
	holds, known := owners.holds(cred.Pid, l.inode)
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

// holds reports whether a process has a socket, if that can be seen.
func (o *ownerCache) holds(pid int32, inode uint32) (yes, known bool) {
	if pid <= 0 {
		return false, false // it is in a namespace that cannot be seen from here
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
			return true, true
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return false, false
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close()
	if err != nil {
		return false, false
	}
	for _, name := range names {
		link, err := os.Readlink(dir + name)
		if errors.Is(err, os.ErrPermission) {
			return false, false
		}
		if link == want {
			o.keep(key, name)
			return true, true
		}
	}
	return false, true
}

func (o *ownerCache) keep(key ownerKey, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m == nil || len(o.m) >= mostOwners {
		o.m = make(map[ownerKey]string)
	}
	o.m[key] = name
}
