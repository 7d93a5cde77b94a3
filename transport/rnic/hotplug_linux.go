//go:build amd64 || arm64

package rnic

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
)

var _ transport.DeviceWatcher = (*Transport)(nil)

// WatchDevices implements transport.DeviceWatcher. Devices that are made or removed are noticed at
// once, as the kernel tells of them (kobject_uevent); where it does not, as in some containers, and
// where a device has got its first address, within ten seconds.
func (t *Transport) WatchDevices(f func()) (stop func()) { return hotplug.add(f) }

// hotplug serves all who watch for devices in this process.
var hotplug watchers

// watchers are functions to call when devices may have come or gone, by one goroutine that lasts as
// long as there are any.
type watchers struct {
	mu  sync.Mutex
	all map[*func()]struct{}
	f   *os.File // what the goroutine waits on; nil if there is none
}

func (w *watchers) add(f func()) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = make(map[*func()]struct{})
	}
	w.all[&f] = struct{}{}
	if w.f == nil {
		if w.f = openEvents(); w.f != nil {
			go w.serve(w.f)
		}
	}
	return func() { w.remove(&f) }
}

func (w *watchers) remove(f *func()) {
	w.mu.Lock()
	delete(w.all, f)
	var over *os.File
	if len(w.all) == 0 {
		over, w.f = w.f, nil
	}
	w.mu.Unlock()
	if over != nil {
		_ = over.Close()
	}
}

// looks are the times between two looks at the devices, from when the kernel has told of one. It
// tells before the device has its port and its addresses.
var looks = [...]time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 10 * time.Second}

func (w *watchers) serve(f *os.File) {
	b := make([]byte, 8<<10)
	look := len(looks) - 1
	for next := time.Now().Add(looks[look]); ; {
		_ = f.SetReadDeadline(next)
		n, err := f.Read(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			look = min(look+1, len(looks)-1)
		case err == nil && !tellsOfDevice(b[:n]):
			continue
		case err == nil, errors.Is(err, syscall.ENOBUFS):
			look = 0
		default:
			w.ended(f)
			return
		}
		w.call(f)
		next = time.Now().Add(looks[look])
	}
}

// ended has the next one who watches open what f was, unless that was closed.
func (w *watchers) ended(f *os.File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == f {
		_ = f.Close()
		w.f = nil
	}
}

// call calls all functions, unless f is no longer what the goroutine waits on.
func (w *watchers) call(f *os.File) {
	devicesChanged()
	w.mu.Lock()
	var all []func()
	for p := range w.all {
		if w.f == f {
			all = append(all, *p)
		}
	}
	w.mu.Unlock()
	for _, f := range all {
		f()
	}
}

// tellsOfDevice reports whether a message of the kernel is about an RDMA device or its file.
func tellsOfDevice(b []byte) bool {
	for field := range bytes.SplitSeq(b, []byte{0}) {
		if bytes.HasPrefix(field, []byte("SUBSYSTEM=infiniband")) {
			return true
		}
	}
	return false
}

// openEvents returns what the kernel's messages about devices come from or, where they cannot be
// had, something that nothing ever comes from.
func openEvents() *os.File {
	const kernelGroup = 1
	const kind = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	if fd, err := unix.Socket(unix.AF_NETLINK, kind, unix.NETLINK_KOBJECT_UEVENT); err == nil {
		if unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}) == nil {
			return os.NewFile(uintptr(fd), "uevents")
		}
		_ = unix.Close(fd)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "no uevents")
}
