package ports

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/rdmanet/iwarp/internal/bound"
)

// Adopt makes a Reservation of a copy of a TCP socket that is bound, or listens.
func (sp *Space) Adopt(f *os.File) (*Reservation, error) {
	s, listens, err := bound.Adopt(f)
	if err != nil {
		return nil, &net.OpError{Op: "adopt", Net: "tcp", Err: err}
	}
	return sp.adopted(s, listens, f.Name(), false), nil
}

// AdoptListener is Adopt for a listener of package net, which may be systemd's.
func (sp *Space) AdoptListener(l *net.TCPListener) (*Reservation, error) {
	f, err := bound.ListenerFile(l)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, listens, err := bound.Adopt(f)
	if err != nil {
		return nil, &net.OpError{Op: "adopt", Net: "tcp", Err: err}
	}
	return sp.adopted(s, listens, f.Name(), true), nil
}

// adopted makes a Reservation of a socket that came from elsewhere.
func (sp *Space) adopted(s *bound.Socket, listens bool, owner string, foreign bool) *Reservation {
	return sp.add(&Reservation{addr: *s.TCPAddr(), at: s.At(), owner: owner, socket: s, listens: listens, shared: true, foreign: foreign})
}

// firstInherited is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstInherited = 3

// inheritVariables are what systemd, or whatever starts the process as systemd does, says about the
// sockets.
var inheritVariables = []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"}

// inherited is a descriptor that came with the process.
type inherited struct {
	fd   int
	name string
}

// Inherit adopts the TCP sockets that came with the process (sd_listen_fds(3)).
func (sp *Space) Inherit() ([]*Reservation, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil // nothing, or meant for another process
	}
	all, err := inheritance()
	if err == nil {
		err = bound.CloseOnExec(descriptors(all))
	}
	var ports, rest []inherited
	for i := 0; i < len(all) && err == nil; i++ {
		var is bool
		if is, err = isPort(all[i].fd); is {
			ports = append(ports, all[i])
		} else {
			rest = append(rest, all[i])
		}
	}
	if err != nil {
		return nil, &net.OpError{Op: "inherit", Net: "tcp", Err: err}
	}
	for _, v := range inheritVariables {
		_ = os.Unsetenv(v) // which fails for no valid name
	}
	var list []*Reservation
	var failures []error
	for _, p := range ports {
		s, err := bound.AdoptFD(p.fd, p.name)
		if err != nil { // nothing known can make it fail
			failures = append(failures, fmt.Errorf("%s: %w", p.name, err))
			continue
		}
		list = append(list, sp.adopted(s, s.Listens(), p.name, true))
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.rest = append(sp.rest, rest...)
	if len(failures) > 0 {
		return list, &net.OpError{Op: "inherit", Net: "tcp", Err: errors.Join(failures...)}
	}
	return list, nil
}

// InheritedFiles returns what came with the process and Inherit did not adopt.
func (sp *Space) InheritedFiles() []*os.File {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	var files []*os.File
	for _, r := range sp.rest {
		files = append(files, os.NewFile(uintptr(r.fd), r.name))
	}
	sp.rest = nil
	return files
}

// inheritance reads the variables.
func inheritance() ([]inherited, error) {
	fds := os.Getenv("LISTEN_FDS")
	if fds == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > 1<<16 {
		return nil, errors.New("environment variable LISTEN_FDS is not a number of descriptors: " + strconv.Quote(fds))
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	list := make([]inherited, n)
	for i := range list {
		list[i] = inherited{firstInherited + i, "LISTEN_FD_" + strconv.Itoa(firstInherited+i)}
		if i < len(names) && names[i] != "" {
			list[i].name = names[i]
		}
	}
	return list, nil
}

func descriptors(list []inherited) (fds []int) {
	for _, d := range list {
		fds = append(fds, d.fd)
	}
	return fds
}

// isPort reports whether the descriptor is a socket that can be adopted. An error means that it is
// not known.
func isPort(fd int) (bool, error) {
	err := bound.Adoptable(fd)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, bound.ErrNotTCP), errors.Is(err, bound.ErrNotBound), errors.Is(err, bound.ErrConnected), errors.Is(err, syscall.ENOTSOCK):
		return false, nil
	}
	return false, err
}
