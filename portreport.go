package iwarp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/rdmanet/iwarp/internal/ports"
)

// PortState says what a reserved port is used for.
type PortState uint8

const (
	PortIdle      PortState = iota // held, and nothing else
	PortListening                  // by a listener
	PortConnected                  // by one connection of the kernel, or any number of devices'
	PortConflict                   // not held on this address, which a PortSet wants: as a rule somebody else has it
)

// String returns the state in a word.
func (s PortState) String() string {
	names := [...]string{"idle", "listening", "connected", "conflict"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown"
}

// PortInfo describes a port that a PortSpace has.
type PortInfo struct {
	Addr       netip.AddrPort // the address is unspecified for a wildcard, and IPv6's for one of both families
	State      PortState
	Owner      string // the device, devices or listener that the port is held for, or the name that a port was inherited under
	References int    // what keeps the port: the reservation, or its listener or connection, and each connection of a device
	Err        error  // why it is not held, for PortConflict
}

// Limits says in sentences which properties of docs/portspace.md the running system does not have,
// as found out by trying. It is empty where everything is as described.
func (ps *PortSpace) Limits() []string { return ports.Limits() }

// Reservations lists the ports that are held now, by address. Ports of connections that the kernel
// chose, and needs no help to hold, are not among them; Holders lists those too.
func (ps *PortSpace) Reservations() []PortInfo {
	var list []PortInfo
	for _, i := range ps.or().engine.Reservations() {
		list = append(list, PortInfo{i.Addr, PortState(i.State), i.Owner, i.References, public(i.Err)})
	}
	return list
}

// The states have the same numbers here and there.
var _ = [1]struct{}{}[PortConflict-PortState(ports.Conflict)]

// A Holder is a kernel socket that has a port.
type Holder struct {
	Local, Remote netip.AddrPort // Remote is not set where there is no peer
	Device        string         // the interface that it is bound to, if it is
	State         string         // as ss(8) has it; "bound" for a socket that neither listens nor is connected
	UID           int            // whose socket it is
	PID           int            // of a process that has it open, 0 if none is visible
	Process       string         // its name, which it chooses itself
	Kernel        bool           // no process has it: it is the kernel's own, as those of its iWARP driver siw. False where processes may be hidden

	hidden bool // a process has it that may not be seen from here
}

// String names the holder, as in "listening on 127.0.0.1:80 by nginx (pid 12)".
func (h Holder) String() string {
	s := fmt.Sprintf("%s on %v", h.State, h.Local)
	if h.Device != "" && h.Local.Addr().Zone() == "" {
		s += " of device " + quoted(h.Device)
	}
	if h.Remote.Port() != 0 {
		s += fmt.Sprintf(" to %v", h.Remote)
	}
	switch {
	case h.PID != 0:
		return fmt.Sprintf("%s by %s (pid %d)", s, quoted(h.Process), h.PID)
	case h.Kernel:
		return s + " by a kernel socket without a process (siw?)"
	case h.State == ports.TimeWait:
		return s
	case h.hidden && h.UID == os.Geteuid():
		return s + " by a process that cannot be seen from here"
	}
	return fmt.Sprintf("%s by a process of user %d", s, h.UID)
}

// quoted returns a name as it is if nothing in it could be taken for something else.
func quoted(name string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_-.+:/@~", r)
	}
	if name != "" && strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name
	}
	return strconv.QuoteToASCII(name)
}

// Holders lists the sockets of the host, or of the process's network namespace, that have the TCP
// port, whoever made them; port 0 means any. It is the kernel's own view; to see the names of other
// users' processes takes a privilege. On systems other than Linux the error matches
// errors.ErrUnsupported.
func (ps *PortSpace) Holders(port uint16) ([]Holder, error) {
	list, err := ports.Holders(port)
	if err != nil {
		return nil, err
	}
	return holders(list), nil
}

func holders(list []ports.Holder) (public []Holder) {
	for _, h := range list {
		public = append(public, Holder{h.Local, h.Remote, h.Device, h.State, h.UID, h.PID, h.Process, h.Kernel, h.Hidden})
	}
	return public
}

// A ConflictError says who has a port that is in use. It is found by errors.As in the *net.OpError
// of Reserve, ReserveEach and Listen, and matches syscall.EADDRINUSE. What Listen returns has the
// text that package net gives.
type ConflictError struct {
	Addr  netip.AddrPort // that was refused
	Tries int            // ports that were tried without success, if any would have done
	Err   error          // of the system

	quiet   bool
	holders []Holder
	unknown error // why the holders are not known
}

// Holders lists the sockets in the way as they were when the call failed. It is empty where the
// system does not say: on systems other than Linux, for sockets that are only bound on kernels
// before 6.8, and where netlink sockets are forbidden.
func (e *ConflictError) Holders() []Holder { return slices.Clone(e.holders) }

func (e *ConflictError) Error() string {
	if e.quiet {
		return e.Err.Error()
	}
	var b strings.Builder
	b.WriteString(e.Err.Error())
	if e.Tries > 0 {
		fmt.Fprintf(&b, " after %d tries, the last on %v", e.Tries, e.Addr)
	}
	const most = 3 // are named
	for i, h := range e.holders {
		if i == most {
			fmt.Fprintf(&b, ", and %d more", len(e.holders)-most)
			break
		}
		b.WriteString([]string{": ", ", "}[min(i, 1)] + h.String())
	}
	if e.unknown != nil {
		fmt.Fprintf(&b, " (by whom cannot be looked up: %v)", e.unknown)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *ConflictError) Unwrap() error { return e.Err }

// public returns err with what it says about a conflict in the form that users know.
func public(err error) error {
	var c *ports.ConflictError
	if !errors.As(err, &c) {
		return err
	}
	e := &ConflictError{Addr: c.Addr, Tries: c.Tries, Err: c.Err, holders: holders(c.Holders), unknown: c.Unknown}
	var op *net.OpError
	if !errors.As(err, &op) {
		return e
	}
	outer := *op
	outer.Err = e
	return &outer
}

// quiet makes an error of Listen say who has the port, but in the words of package net.
func quiet(err error) error {
	var c *ConflictError
	if errors.As(err, &c) {
		c.quiet = true
	}
	return err
}
