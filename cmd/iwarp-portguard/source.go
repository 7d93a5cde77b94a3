package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rdmanet/iwarp/cmd/internal/proc"
	"github.com/rdmanet/iwarp/internal/nldev"
)

// An id is one of the connection manager's, on a device.
type id struct {
	nldev.CMID
	device      string // name of the RDMA device
	netdev      string // its interface, "" if it has none here
	kernelPorts bool   // the driver itself holds a kernel socket for the port
}

// A view is what the kernel says.
type view struct {
	ids []id
	// drivers says that there are devices whose driver has sockets of the kernel. An id that listens
	// on a wildcard then has some on their interfaces, or will.
	drivers bool
}

// A source asks the kernel for ids.
type source struct {
	links map[uint32][]nldev.Link // ports of the devices that were there at the last look
}

// look returns those on all devices that the network namespace sees. Devices of iWARP of which the
// kernel does not tell the driver are left alone: they are about to come or go, and could be siw's.
func (s *source) look() (v view, err error) {
	devices, err := nldev.Devices()
	if err != nil {
		return view{}, err
	}
	if err := s.connections(devices); err != nil {
		return view{}, err
	}
	for _, d := range devices {
		if d.Node == nldev.NodeRNIC && d.Driver == nldev.DriverUnknown {
			v.drivers = true
			continue
		}
		ids, err := nldev.CMIDs(d.Index)
		if err != nil && !errors.Is(err, nldev.ErrTooMany) {
			return view{}, fmt.Errorf("device %s: %w", d.Device, err)
		}
		kernelPorts := d.Traits().KernelPorts
		v.drivers = v.drivers || kernelPorts
		for _, c := range ids {
			v.ids = append(v.ids, id{c, d.Device, s.netdev(d.Index, c.Port), kernelPorts})
		}
	}
	return v, nil
}

// connections finds out which interfaces the devices are connected to, if some are new.
func (s *source) connections(devices []nldev.Link) error {
	if !slices.ContainsFunc(devices, func(d nldev.Link) bool { return s.links[d.Index] == nil }) {
		return nil
	}
	links, err := nldev.Links()
	if err != nil {
		return err
	}
	s.links = make(map[uint32][]nldev.Link)
	for _, d := range devices {
		s.links[d.Index] = []nldev.Link{} // it may be gone by now
	}
	for _, l := range links {
		s.links[l.Index] = append(s.links[l.Index], l)
	}
	return nil
}

// netdev returns the interface of a port of a device. An id that is on all ports has that of the
// first.
func (s *source) netdev(device, port uint32) string {
	links := s.links[device]
	for _, l := range links {
		if l.Port == port {
			return l.NetDev
		}
	}
	if len(links) > 0 {
		return links[0].NetDev
	}
	return ""
}

// A want is a place that ids have, and nobody else should get.
type want struct {
	place
	ids     []id
	drivers bool // those of a view
}

// guarded reports whether the id has a port that its device does not take from the kernel.
func (c *id) guarded() bool {
	return c.Space == nldev.SpaceTCP && c.Local.Port() != 0 && !c.kernelPorts &&
		c.State != nldev.CMIdle && c.State != nldev.CMDestroying
}

// wants returns the places that the ids have, wildcards first. An id that is on its way to listen
// or to be connected has its port already.
func (v *view) wants() (list []*want) {
	wants := make(map[place]*want)
	for _, c := range v.ids {
		if !c.guarded() {
			continue
		}
		p := place{addr: c.Local.Addr().Unmap(), port: c.Local.Port()}
		if wants[p] == nil {
			wants[p] = &want{place: p, drivers: v.drivers}
			list = append(list, wants[p])
		}
		wants[p].ids = append(wants[p].ids, c)
	}
	slices.SortFunc(list, func(a, b *want) int {
		return cmp.Or(cmp.Compare(a.width(), b.width()), netip.AddrPortFrom(a.addr, a.port).Compare(netip.AddrPortFrom(b.addr, b.port)))
	})
	return list
}

// places are where sockets hold all of w. A wildcard beside drivers that have sockets of the kernel
// is held on the interfaces of the other devices alone, so as not to be in the way of those.
func (w *want) places() (list []place) {
	netdevs := w.netdevs()
	if !w.addr.IsUnspecified() || !w.drivers || slices.Contains(netdevs, "") {
		return []place{w.place}
	}
	for _, netdev := range netdevs {
		p := w.place
		p.device = netdev
		list = append(list, p)
	}
	return list
}

// netdevs are the interfaces of the devices.
func (w *want) netdevs() (list []string) {
	for _, c := range w.ids {
		if !slices.Contains(list, c.netdev) {
			list = append(list, c.netdev)
		}
	}
	return list
}

// devices names the RDMA devices.
func (w *want) devices() string {
	var list []string
	for _, c := range w.ids {
		if !slices.Contains(list, c.device) {
			list = append(list, c.device)
		}
	}
	return strings.Join(list, ",")
}

// programs says whose the ids are, as far as there are few.
func (w *want) programs() string {
	var list []string
	for i := range w.ids {
		name := whose(&w.ids[i])
		if slices.Contains(list, name) {
			continue
		}
		if len(list) == 3 {
			list = append(list, "...")
			break
		}
		list = append(list, name)
	}
	return strings.Join(list, ",")
}

func whose(c *id) string {
	switch {
	case c.Kernel != "":
		return "[" + c.Kernel + "]"
	case c.PID == 0:
		return "(ended)"
	}
	pid := proc.Leader(c.PID)
	return fmt.Sprintf("%s(%d)", proc.Name(pid), pid)
}
