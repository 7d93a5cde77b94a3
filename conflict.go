package iwarp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"github.com/rdmanet/iwarp/internal/sockdiag"
)

// A Holder is a socket of the kernel's that has a port.
type Holder struct {
	Local, Remote netip.AddrPort // Remote is not set where there is no peer
	State         string         // as ss(8) has it; "bound" for a socket that neither listens nor is connected
	UID           int            // whose socket it is
	PID           int            // of a process that has it open, 0 if none is visible
	Process       string         // its name
	Kernel        bool           // no process has it: the kernel's own, as those of its iWARP driver siw, or of another PID namespace
}

// String names the holder, as in "listening on 127.0.0.1:80 by nginx (pid 12)".
func (h Holder) String() string {
	s := fmt.Sprintf("%s on %v", h.State, h.Local)
	if h.Remote.Port() != 0 {
		s += fmt.Sprintf(" to %v", h.Remote)
	}
	switch {
	case h.PID != 0:
		return fmt.Sprintf("%s by %s (pid %d)", s, h.Process, h.PID)
	case h.Kernel:
		return s + " by a kernel socket without a process (siw?)"
	case h.State == sockdiag.TimeWait.String():
		return s
	}
	return fmt.Sprintf("%s by a process of user %d", s, h.UID)
}

// A ConflictError says who has a port that is in use. It is found by errors.As in the *net.OpError of Reserve, ReserveEach and Listen, and
// matches syscall.EADDRINUSE. What Listen returns has the text that package net gives.
type ConflictError struct {
	Addr  netip.AddrPort // that was refused
	Tries int            // ports that were tried in vain, if any would have done
	Err   error          // of the system

	quiet   bool
	sockets []sockdiag.Socket
	holders func() []Holder
}

// Holders lists the sockets in the way as they were when the call failed. It is empty where the system does not tell: on systems other than Linux,
// and for sockets that are only bound on kernels before 6.8.
func (e *ConflictError) Holders() []Holder {
	if e.holders == nil {
		return nil
	}
	return e.holders()
}

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
	for i, h := range e.Holders() {
		if i == most {
			fmt.Fprintf(&b, ", and %d more", len(e.Holders())-most)
			break
		}
		b.WriteString([]string{": ", ", "}[min(i, 1)] + h.String())
	}
	return b.String()
}

// Unwrap returns Err.
func (e *ConflictError) Unwrap() error { return e.Err }

// conflict makes a ConflictError of err if the port of a is in use, and returns other errors as they are.
func conflict(network string, a *net.TCPAddr, err error) error {
	var known *ConflictError
	if !errors.Is(err, syscall.EADDRINUSE) || a == nil || errors.As(err, &known) {
		return err
	}
	e := &ConflictError{Addr: unmap(a.AddrPort()), Err: err}
	if !e.Addr.Addr().IsValid() {
		unspecified := netip.IPv6Unspecified()
		if network == "tcp4" {
			unspecified = netip.IPv4Unspecified()
		}
		e.Addr = netip.AddrPortFrom(unspecified, uint16(a.Port))
	}
	if a.Port == 0 {
		return e // it is not one port that is in use
	}
	// Which sockets are in the way must be asked at once; whose they are can wait until somebody wants to know.
	for _, query := range []func(uint16) ([]sockdiag.Socket, error){sockdiag.QueryUnconnected, sockdiag.Query} {
		if len(e.sockets) == 0 {
			e.sockets = inTheWay(query, network, e.Addr)
		}
	}
	e.holders = sync.OnceValue(func() []Holder { return holders(e.sockets) })
	return e
}

// inTheWay returns the sockets that do not let a be bound.
func inTheWay(query func(uint16) ([]sockdiag.Socket, error), network string, a netip.AddrPort) (list []sockdiag.Socket) {
	host := a.Addr()
	if network == "tcp" && host.IsUnspecified() {
		host = netip.IPv6Unspecified() // of both families
	}
	sockets, _ := query(a.Port())
	for _, s := range sockets {
		if s.Covers(host, network == "tcp6") {
			list = append(list, s)
		}
	}
	return list
}

// holders says whose the sockets are, those without a peer first.
func holders(sockets []sockdiag.Socket) []Holder {
	inodes := make([]uint32, 0, len(sockets))
	for _, s := range sockets {
		inodes = append(inodes, s.Inode)
	}
	owners, complete := sockdiag.Owners(inodes...)
	var list, connected []Holder
	for _, s := range sockets {
		p := owners[s.Inode]
		h := Holder{Local: unmap(s.Local), State: s.State.String(), UID: int(s.UID), PID: p.PID, Process: p.Name,
			Kernel: p.PID == 0 && s.Inode != 0 && complete}
		if s.Remote.Port() == 0 {
			list = append(list, h)
			continue
		}
		h.Remote = unmap(s.Remote)
		connected = append(connected, h)
	}
	return append(list, connected...)
}

// Holders lists the sockets of the host, or of the process's network namespace, that have the TCP port, whoever made them; port 0
// means any. It is the kernel's own view; the names of other users' processes need a privilege. On systems other than Linux the
// error matches errors.ErrUnsupported.
func (ps *PortSpace) Holders(port uint16) ([]Holder, error) {
	sockets, err := sockdiag.Query(port)
	if err != nil {
		return nil, err
	}
	return holders(sockets), nil
}
