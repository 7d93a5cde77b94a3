package shm

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/pool"
)

// say sends a greeting, with a descriptor if fd is not negative.
func say(c *net.UnixConn, g *greeting, fd int) error {
	if len(g.private) > mostPrivate {
		return errPrivate
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	b := g.append(make([]byte, 0, greetingLen+len(g.private)))
	n, _, err := c.WriteMsgUnix(b, rights, nil)
	if err == nil && n < len(b) {
		_, err = c.Write(b[n:])
	}
	return err
}

// sayNow sends a greeting without a descriptor if there is room for it at once.
func sayNow(raw syscall.RawConn, g *greeting) error {
	if len(g.private) > mostPrivate {
		return errPrivate
	}
	b := g.append(make([]byte, 0, greetingLen+len(g.private)))
	var n int
	err := error(unix.EINTR)
	werr := raw.Write(func(fd uintptr) bool {
		for err == unix.EINTR {
			n, err = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
		return true
	})
	switch {
	case werr != nil:
		return werr
	case err == unix.EAGAIN, err == nil && n < len(b):
		return transport.ErrHandshakeTimeout
	}
	return os.NewSyscallError("sendmsg", err)
}

var (
	errNoMemory = errors.New("no memory came with the peer's greeting")
	errTooMany  = errors.New("more came with the peer's greeting than one descriptor")
	errBurying  = errors.New("too many descriptors wait to be closed that peers have sent")
)

// hear receives the first greeting on a socket and the descriptor that came with it, or -1.
func hear(c *net.UnixConn) (g *greeting, fd int, err error) {
	if g, fd, err = hearNext(c); err == nil {
		refuseRights(c)
	}
	return g, fd, err
}

// hearNext is hear for a further one. Wake-ups that are left of an earlier connection are skipped.
func hearNext(c *net.UnixConn) (g *greeting, fd int, err error) {
	fd = -1
	defer func() {
		if err != nil {
			bury(fd)
			fd = -1
		}
	}()
	if graves.full() {
		return nil, fd, errBurying
	}
	b := make([]byte, greetingLen+mostPrivate)
	rights := pool.Get(rightsLen)
	defer pool.Put(rights)
	// What comes after the greeting, wake-ups, is of no use yet.
	for n, size := 0, greetingLen; n < size; {
		m, oob, flags, _, err := c.ReadMsgUnix(b[n:], (*rights)[:rightsLen])
		if oob > 0 && !keepOne((*rights)[:oob], &fd) {
			return nil, fd, errTooMany
		}
		n = skipBells(b[:n+max(m, 0)])
		switch {
		case err == nil && flags&unix.MSG_CTRUNC != 0:
			return nil, fd, os.NewSyscallError("recvmsg", syscall.EMFILE)
		case err == nil && m == 0, errors.Is(err, io.EOF):
			if n > 0 {
				return nil, fd, io.ErrUnexpectedEOF
			}
			return nil, fd, io.EOF
		case err != nil:
			return nil, fd, err
		}
		if n < greetingLen {
			continue
		}
		if size, err = greetingSize(b); err != nil {
			return nil, fd, err
		}
		if n >= size {
			b = b[:size]
		}
	}
	g, err = parseGreeting(b)
	return g, fd, err
}

// skipBells takes the wake-ups off the front of b, and returns how many bytes are left.
func skipBells(b []byte) int {
	i := 0
	for i < len(b) && b[i] == bellByte[0] {
		i++
	}
	return copy(b, b[i:])
}

// keepOne takes the descriptors of a control message. One is kept in *fd, all others are buried. It
// reports false if there were others.
func keepOne(control []byte, fd *int) bool {
	all := rightsIn(control)
	if *fd < 0 && len(all) > 0 {
		*fd, all = all[0], all[1:]
	}
	for _, f := range all {
		bury(f)
	}
	return len(all) == 0
}

// refuseRights has the kernel refuse further descriptors, where it can. The peer gets an error.
func refuseRights(c *net.UnixConn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, soPassRight, 0) })
	}
}

// handshakeError names what a failure during the set-up says about the peer.
func handshakeError(err error) error {
	for _, of := range []error{errGreeting, errVersion, errNoMemory, errTooMany, errSegment, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, of) {
			return &transport.NotIWARPError{Cause: err}
		}
	}
	return err
}
