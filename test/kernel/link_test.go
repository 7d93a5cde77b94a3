//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Addresses of the Ethernet between the guest's eth1 and this host.
const (
	linkAddr     = "10.6.0.15" // the guest's, served by siw
	linkAddr6    = "fd00:6::15"
	ourLinkAddr  = "10.6.0.2"
	ourLinkAddr6 = "fd00:6::2"
)

// A link is that Ethernet: a tap device, alone with lo in a network namespace that vanishes with
// this process. QEMU's user network, by which the guest is told what to do, knows little of IPv6,
// and cuts TCP streams into segments of its own.
type link struct {
	tap, namespace *os.File
}

var theLink = sync.OnceValues(func() (l link, err error) {
	made := make(chan struct{})
	go func() {
		defer close(made)
		runtime.LockOSThread() // for good: the thread stays in the namespace, and ends
		l, err = newLink()
	}()
	<-made
	if err != nil {
		return l, fmt.Errorf("no link to the guest: %w", err)
	}
	return l, nil
})

// newLink moves the calling thread to a new namespace.
func newLink() (l link, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return l, os.NewSyscallError("unshare", err)
	}
	if l.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return l, err
	}
	const name, file = "tap0", "/dev/net/tun"
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return l, &os.PathError{Op: "open", Path: file, Err: err}
	}
	l.tap = os.NewFile(uintptr(fd), file)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return l, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return l, os.NewSyscallError("ioctl TUNSETIFF", err)
	}
	for _, args := range []string{
		"addr add " + ourLinkAddr + "/24 dev " + name, "-6 addr add " + ourLinkAddr6 + "/64 dev " + name + " nodad",
		"link set lo up", "link set " + name + " up",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return l, fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return l, nil
}

// linkInit is the guest's side of the link, and linkDevice the device on it.
const (
	linkInit = "ip addr add " + linkAddr + "/24 dev eth1; ip -6 addr add " + linkAddr6 + `/64 dev eth1 nodad
		ip link set eth1 up
		` + linkDevice
	linkDevice = "rdma link add siw3 type siw netdev eth1"
)

// linkedHost is this host at its end of the link.
func linkedHost() (*place, error) {
	host, err := theHost()
	l, linkErr := theLink()
	if err := errors.Join(err, linkErr); err != nil {
		return nil, err
	}
	return &place{name: host.name, Client: host.Client, prefix: words("nsenter --net=/proc/%d/fd/%d", os.Getpid(), l.namespace.Fd())}, nil
}
