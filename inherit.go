package iwarp

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
)

var (
	errNotTCP    = errors.New("file is not a TCP socket")
	errNotBound  = errors.New("socket is not bound to a port")
	errConnected = errors.New("socket is connected")
)

// Adopt makes a Reservation of a TCP socket that is bound, or listens, and was got from another process, such as by os/exec's ExtraFiles from
// Reservation.File or Listener.File there. The Reservation has a copy of the descriptor; f is still to be closed.
// Its Owner is f's name. Adopted sockets that listen take clients from the start; Listen returns what accepts them, and they
// cannot dial. On Windows the error matches errors.ErrUnsupported, on other systems than Linux the socket must listen.
func (ps *PortSpace) Adopt(f *os.File) (*Reservation, error) {
	s, listens, err := adoptSocket(f)
	if err != nil {
		return nil, &net.OpError{Op: "adopt", Net: "tcp", Err: err}
	}
	// The network is left open: a wildcard of IPv4 may be wanted by either name.
	r := &Reservation{addr: *s.addr(), owner: f.Name(), socket: s, listens: listens}
	return ps.or().add(r), nil
}

// firstInherited is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstInherited = 3

// Inherit adopts the TCP sockets that systemd, or who starts the process in its way, has opened for it (sd_listen_fds(3): LISTEN_FDS,
// LISTEN_PID and LISTEN_FDNAMES). Sockets of other kinds are left alone. A port's Owner is its name in LISTEN_FDNAMES. The
// variables are unset, so that a second call returns nothing. No sockets is no error.
func (ps *PortSpace) Inherit() ([]*Reservation, error) {
	fds, pid, named := os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDNAMES")
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // nothing, or meant for another process
	}
	for _, v := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(v)
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > 1<<16 {
		return nil, &net.OpError{Op: "inherit", Net: "tcp", Err: errors.New("environment variable LISTEN_FDS is not a number of descriptors: " + strconv.Quote(fds))}
	}
	names := strings.Split(named, ":")
	var list []*Reservation
	for i := range n {
		name := "LISTEN_FD_" + strconv.Itoa(firstInherited+i)
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		f, err := copyOf(firstInherited+i, name)
		if err != nil {
			continue
		}
		r, err := ps.Adopt(f)
		_ = f.Close()
		if err != nil {
			continue
		}
		closeFD(firstInherited + i)
		list = append(list, r)
	}
	return list, nil
}
