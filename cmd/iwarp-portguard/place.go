package main

import (
	"net/netip"
	"strings"
)

// A place is where a socket may be bound.
type place struct {
	addr   netip.Addr // IPv4 in its own form
	port   uint16
	only6  bool   // a wildcard of IPv6 that leaves IPv4 alone
	device string // interface that it is bound to, "" for any
}

// covers reports whether a socket at p holds all of q.
func (p place) covers(q place) bool {
	if p.port != q.port || p.device != "" && p.device != q.device {
		return false
	}
	switch {
	case p.addr == q.addr:
		return !p.only6 || q.only6 || !q.addr.IsUnspecified()
	case !p.addr.IsUnspecified():
		return false
	case p.addr.Is4():
		return q.addr.Is4()
	}
	return !p.only6 || q.addr.Is6()
}

// overlaps reports whether sockets at p and q are in each other's way, or one is part of the other.
func (p place) overlaps(q place) bool {
	p.only6, q.only6 = false, false
	if p.device == "" || q.device == "" {
		p.device, q.device = "", ""
	}
	return p.covers(q) || q.covers(p)
}

// width sorts places, so that none comes before one that covers it.
func (p place) width() int {
	switch {
	case !p.addr.IsUnspecified():
		return 2
	case p.addr.Is4() || p.only6:
		return 1
	}
	return 0
}

func (p place) network() string {
	switch {
	case p.addr.Is4():
		return "tcp4"
	case p.addr.IsUnspecified() && !p.only6:
		return "tcp"
	}
	return "tcp6"
}

func (p place) address() string { return netip.AddrPortFrom(p.addr, p.port).String() }

// String has the interface as ss(8) does, and "*" for a wildcard of both families.
func (p place) String() string {
	s := p.address()
	i := strings.LastIndexByte(s, ':')
	host, port := s[:i], s[i:]
	if p.network() == "tcp" {
		host = "*"
	}
	if p.device != "" {
		host += "%" + p.device
	}
	return host + port
}
