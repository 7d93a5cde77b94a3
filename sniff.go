package iwarp

import (
	"errors"
	"net"
	"os"
)

// mpaKey begins every MPA request (RFC 5044 §7.1.1).
const (
	mpaKey = "MPA ID Req Frame"
	keyLen = len(mpaKey)
)

// verdict is what the first bytes of a connection tell.
type verdict uint8

const (
	undecided verdict = iota
	plainTCP
	iwarpRequest
)

// judge decides as soon as the bytes allow.
func judge(b []byte, ended bool) verdict {
	n := min(len(b), keyLen)
	switch {
	case string(b[:n]) != mpaKey[:n]:
		return plainTCP
	case n == keyLen:
		return iwarpRequest
	case ended:
		return plainTCP
	}
	return undecided
}

// beginning is what is known of the first bytes of a connection.
type beginning struct {
	v verdict
	n int // bytes that are there, up to the length of the key
}

// firstBytes waits for what c begins with, until its read deadline. What is there by then counts,
// even if nobody had looked in time.
func firstBytes(c *net.TCPConn) (beginning, error) {
	b, err := sniff(c, true)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		late, lateErr := sniff(c, false)
		if late.v != undecided {
			return late, lateErr
		}
		b.n = late.n
	}
	return b, err
}

// sniff looks at the first bytes of c. With wait it blocks until they tell, or the read deadline of
// c passes. An error that comes with undecided is os.ErrDeadlineExceeded, net.ErrClosed or that of
// the connection, inside a *net.OpError.
func sniff(c *net.TCPConn, wait bool) (b beginning, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return b, err
	}
	var p peeker
	var failure error
	look := func(fd uintptr) bool {
		var ended bool
		ended, failure = p.peek(fd)
		if failure == nil {
			b = beginning{judge(p.buf[:p.n], ended), p.n}
		}
		return b.v != undecided || failure != nil
	}
	if wait {
		err = rc.Read(look)
	} else {
		err = rc.Control(func(fd uintptr) { look(fd) })
	}
	if err == nil {
		err = failure
	}
	return b, err
}
