package iwarp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/sockdiag"
)

// A Holder is a socket of the kernel's that has a port.
type Holder struct {
	Local, Remote netip.AddrPort // Remote is not set where there is no peer
	Device        string         // the interface that it is bound to, if it is
	State         string         // as ss(8) has it; "bound" for a socket that neither listens nor is connected
	UID           int            // whose socket it is
	PID           int            // of a process that has it open, 0 if none is visible
	Process       string         // its name, which it chooses itself
	Kernel        bool           // no process has it: the kernel's own, as those of its iWARP driver siw. False where processes may be hidden

	hidden bool // somebody has it who may not be seen from here
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
	case h.State == sockdiag.TimeWait.String():
		return s
	case h.hidden && h.UID == os.Geteuid():
		return s + " by a process that cannot be seen from here"
	}
	return fmt.Sprintf("%s by a process of user %d", s, h.UID)
}

// quoted returns a name as it is if there is nothing in it that could be taken for something else.
func quoted(name string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_-.+:/@~", r)
	}
	if name != "" && strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name
	}
	return strconv.QuoteToASCII(name)
}

// A ConflictError says who has a port that is in use. It is found by errors.As in the *net.OpError
// of Reserve, ReserveEach and Listen, and matches syscall.EADDRINUSE. What Listen returns has the
// text that package net gives.
type ConflictError struct {
	Addr  netip.AddrPort // that was refused
	Tries int            // ports that were tried in vain, if any would have done
	Err   error          // of the system

	quiet   bool
	holders []Holder
	unknown error // why the holders are not known
}

// Holders lists the sockets in the way as they were when the call failed. It is empty where the
// system does not tell: on systems other than Linux, for sockets that are only bound on kernels
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

// conflict makes a ConflictError of err if the port of a is in use where a socket was to be, and
// returns other errors as they are.
func conflict(a netip.AddrPort, at bound.Binding, err error) error {
	var known *ConflictError
	if !errors.Is(err, syscall.EADDRINUSE) || errors.As(err, &known) {
		return err
	}
	e := &ConflictError{Addr: a, Err: err}
	if a.Port() == 0 {
		return e // it is not one port that is in use
	}
	// The sockets may be gone, or others may be there, when somebody wants to know.
	for _, query := range []func(uint16) ([]sockdiag.Socket, error){sockdiag.QueryUnconnected, sockdiag.Query} {
		list, err := query(a.Port())
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			e.unknown = err
			return e
		}
		list = slices.DeleteFunc(list, func(s sockdiag.Socket) bool { return !at.InTheWay(s) })
		if len(list) > 0 {
			e.holders = holders(list)
			return e
		}
	}
	return e
}

// holders says whose the sockets are, those without a peer first.
func holders(sockets []sockdiag.Socket) []Holder {
	inodes := make([]uint32, 0, len(sockets))
	for _, s := range sockets {
		inodes = append(inodes, s.Inode)
	}
	owners, complete := sockdiag.Owners(inodes...)
	there := func(s sockdiag.Socket) bool {
		list, err := sockdiag.Query(s.Local.Port())
		return err == nil && slices.ContainsFunc(list, func(t sockdiag.Socket) bool { return t.Inode == s.Inode })
	}
	var list, connected []Holder
	for _, s := range sockets {
		p := owners[s.Inode]
		h := Holder{Local: netaddr.Zoned(s.Local, s.Interface), Device: netaddr.InterfaceName(s.Interface), State: s.State.String(), UID: int(s.UID),
			PID: p.PID, Process: p.Name, hidden: p.PID == 0 && !complete}
		h.Kernel = p.PID == 0 && s.Inode != 0 && complete && there(s)
		if s.Remote.Port() == 0 {
			list = append(list, h)
			continue
		}
		h.Remote = netaddr.Zoned(s.Remote, s.Interface)
		connected = append(connected, h)
	}
	return append(list, connected...)
}

// Holders lists the sockets of the host, or of the process's network namespace, that have the TCP
// port, whoever made them; port 0 means any. It is the kernel's own view; the names of other users'
// processes need a privilege. On systems other than Linux the error matches errors.ErrUnsupported.
func (ps *PortSpace) Holders(port uint16) ([]Holder, error) {
	sockets, err := sockdiag.Query(port)
	if err != nil {
		return nil, err
	}
	return holders(sockets), nil
}
