package ports

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/sockdiag"
)

// A Holder is a kernel socket that has a port.
type Holder struct {
	Local, Remote netip.AddrPort
	Device        string
	State         string
	UID           int
	PID           int
	Process       string
	Kernel        bool
	Hidden        bool // a process has it that may not be seen from here
}

// A ConflictError says who has a port that is in use.
type ConflictError struct {
	Addr    netip.AddrPort // that was refused
	Tries   int            // ports that were tried without success, if any would have done
	Err     error          // of the system
	Holders []Holder
	Unknown error // why the holders are not known
}

func (e *ConflictError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ConflictError) Unwrap() error { return e.Err }

// conflict makes a ConflictError of err if the port of a is in use where a socket was wanted, and
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
			e.Unknown = err
			return e
		}
		list = slices.DeleteFunc(list, func(s sockdiag.Socket) bool { return !at.InTheWay(s) })
		if len(list) > 0 {
			e.Holders = holders(list)
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
			PID: p.PID, Process: p.Name, Hidden: p.PID == 0 && !complete}
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

// Holders lists the sockets that have the port, whoever made them; port 0 means any.
func Holders(port uint16) ([]Holder, error) {
	sockets, err := sockdiag.Query(port)
	if err != nil {
		return nil, err
	}
	return holders(sockets), nil
}

// TimeWait is the State of the Holder that a connection is in TIME_WAIT.
var TimeWait = sockdiag.TimeWait.String()
