//go:build amd64 || arm64

package rnic

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/nldev"
	"github.com/rdmanet/iwarp/transport"
)

// A device is a transport.Device with what this package has to know of it.
type device struct {
	transport.Device
	siw      bool
	onlyIPv4 bool
}

// serves reports whether the device can have connections to the address, or listen on it.
func (d *device) serves(a netip.Addr) bool { return !d.onlyIPv4 || a.Unmap().Is4() }

// deviceTTL is how long a list of devices is used. Devices that come or go are noticed that late,
// unless a connection tells sooner.
const deviceTTL = time.Second

// A deviceCache is a list of devices that is seldom asked for anew.
type deviceCache struct {
	mu      sync.Mutex
	devices []*device
	err     error
	until   time.Time
	changes uint64 // when they were listed
}

func (c *deviceCache) list() ([]*device, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, changes := time.Now(), changes.Load(); now.After(c.until) || changes != c.changes {
		c.devices, c.err = findDevices()
		c.until, c.changes = now.Add(deviceTTL), changes
	}
	return c.devices, c.err
}

// of returns the device of that name, which is there at the moment.
func (c *deviceCache) of(name string) (*device, error) {
	for range 2 {
		list, err := c.list()
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			if d.Name == name {
				return d, nil
			}
		}
		c.mu.Lock()
		c.until = time.Time{} // it may have come since
		c.mu.Unlock()
	}
	return nil, transport.ErrNoDevice
}

// serve reports whether a is an address of a device.
func (c *deviceCache) serve(a netip.Addr) bool {
	list, _ := c.list()
	return slices.ContainsFunc(list, func(d *device) bool { return slices.Contains(d.Addrs, a.Unmap()) })
}

func findDevices() ([]*device, error) {
	links, err := nldev.Links()
	if err != nil {
		return nil, err
	}
	var list []*device
	for i := range links {
		if d := newDevice(&links[i]); d != nil {
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	// Opened the way librdmacm does it, which does not say why it cannot.
	fd, err := unix.Open(cmFile, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unavailable(&os.PathError{Op: "open", Path: cmFile, Err: err})
	}
	_ = unix.Close(fd)
	return list, nil
}

const cmFile = "/dev/infiniband/rdma_cm"

// newDevice returns nil for what carries no streams of this host now.
func newDevice(l *nldev.Link) *device {
	if l.Chardev == "" {
		return nil // it is about to come, or to go; its driver is not known then
	}
	if hasFailed(l.Index) {
		return nil
	}
	if l.State != nldev.PortActive && l.State != nldev.PortActiveDefer || l.Node != nldev.NodeCA && l.Node != nldev.NodeRNIC {
		return nil
	}
	d := describe(l)
	if l.NetDevIndex == 0 {
		return d // InfiniBand, whose addresses are those of IPoIB
	}
	d.Addrs = slices.DeleteFunc(addrsOf(int(l.NetDevIndex)), func(a netip.Addr) bool { return !d.serves(a) })
	if len(d.Addrs) == 0 {
		return nil
	}
	return d
}

// addrsOf returns the addresses of an interface that can be reached through a device, which
// loopback addresses cannot.
func addrsOf(index int) []netip.Addr {
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return nil
	}
	list, err := netaddr.OfInterface(*i)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(list, netip.Addr.IsLoopback)
}
