package shm

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
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

var (
	errNoMemory = errors.New("no memory came with the peer's greeting")
	errTooMany  = errors.New("more came with the peer's greeting than one descriptor")
)

// hear receives a greeting and the descriptor that came with it, or -1.
func hear(c *net.UnixConn) (g *greeting, fd int, err error) {
	fd = -1
	defer func() {
		if err != nil && fd >= 0 {
			_ = unix.Close(fd)
			fd = -1
		}
	}()
	b := make([]byte, greetingLen, greetingLen+mostPrivate)
	rights := make([]byte, unix.CmsgSpace(4*4))
	for n := 0; n < len(b); {
		m, oob, flags, _, err := c.ReadMsgUnix(b[n:], rights)
		if oob > 0 {
			// Whatever came is ours to close.
			if err := keepOne(rights[:oob], &fd); err != nil {
				return nil, fd, err
			}
		}
		n += m
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
		if n >= greetingLen && len(b) == greetingLen {
			size, err := greetingSize(b)
			if err != nil {
				return nil, fd, err
			}
			b = b[:size]
		}
	}
	g, err = parseGreeting(b)
	return g, fd, err
}

// keepOne takes the descriptors of a control message. One is kept in *fd, all others are closed.
func keepOne(control []byte, fd *int) error {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return os.NewSyscallError("recvmsg", err)
	}
	tooMany := false
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials, or what else there may be
		}
		for _, f := range fds {
			if *fd < 0 {
				*fd = f
				continue
			}
			tooMany = true
			_ = unix.Close(f)
		}
	}
	if tooMany {
		return errTooMany
	}
	return nil
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
