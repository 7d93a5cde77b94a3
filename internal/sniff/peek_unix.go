//go:build unix

package sniff

import "golang.org/x/sys/unix"

// CanPeek reports whether the system lets bytes be looked at.
const CanPeek = true

// peeker looks at the first bytes of a connection and leaves them there.
type peeker struct {
	buf   [glimpseLen]byte
	n     int
	there int // bytes that can be read, or some of them; 0 if that is not known
	fds   [1]unix.PollFd
	errs  Errors
}

// peek gets what is there without waiting. It reports ended if no more bytes will come. The error
// is that of the connection. It is left to the user of the connection, from whom a look at the
// bytes takes it only if there are none.
func (p *peeker) peek(fd uintptr) (ended bool, err error) {
	if p.errs == Take {
		p.n = 0
		switch err := p.look(fd); {
		case err == unix.EAGAIN:
			return false, nil
		case err != nil, p.n == 0, p.n >= len(Key):
			p.there = p.n
			return p.n == 0, err
		} // or what matters is whether the rest of the key is still to come
	}
	there, known := unread(fd)
	if p.there = there; there > 0 {
		if err := p.look(fd); err != nil && err != unix.EAGAIN {
			return true, err
		} else if p.n >= len(Key) {
			return false, nil
		}
	}
	p.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | pollPeerClosed}
	for {
		if _, err := unix.Poll(p.fds[:], 0); err == nil {
			break
		} else if err != unix.EINTR {
			return false, err
		}
	}
	events := p.fds[0].Revents
	over := events&(unix.POLLERR|unix.POLLHUP|pollPeerClosed) != 0
	if known {
		if over {
			// Nothing comes after that, but something may have come before it.
			if there, _ = unread(fd); there > p.n {
				err = p.look(fd)
			}
		}
		return over, err
	}
	switch {
	case events == 0:
		return false, nil
	case events&unix.POLLERR != 0:
		return true, nil
	}
	switch err = p.look(fd); err {
	case nil:
		return p.n == 0 || over, nil
	case unix.EAGAIN:
		return false, nil
	}
	return true, err
}

// look takes a copy of the first bytes.
func (p *peeker) look(fd uintptr) error {
	for {
		n, err := glimpse(fd, p.buf[:])
		if err == nil {
			p.n = n
		}
		if err != unix.EINTR {
			return err
		}
	}
}
