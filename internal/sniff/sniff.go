// Package sniff finds out what the first bytes of a connection say, and leaves them there.
package sniff

import (
	"errors"
	"net"
	"os"
)

// Key begins every MPA request (RFC 5044 §7.1.1).
const Key = "MPA ID Req Frame"

// A Verdict is what the first bytes of a connection say.
type Verdict uint8

// The verdicts.
const (
	Undecided Verdict = iota
	PlainTCP
	IWARPRequest
)

// judge decides as soon as the bytes allow.
func judge(b []byte, ended bool) Verdict {
	n := min(len(b), len(Key))
	switch {
	case string(b[:n]) != Key[:n]:
		return PlainTCP
	case n == len(Key):
		return IWARPRequest
	case ended:
		return PlainTCP
	}
	return Undecided
}

// A Beginning is what is known about the first bytes of a connection.
type Beginning struct {
	Verdict Verdict
	N       int // bytes that are there, up to the length of the key
}

// FirstBytes waits for what c begins with, until its read deadline. What is there by then counts,
// even if nobody has looked in time.
func FirstBytes(c *net.TCPConn) (Beginning, error) {
	b, err := Look(c, true)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		late, lateErr := Look(c, false)
		if late.Verdict != Undecided {
			return late, lateErr
		}
		b.N = late.N
	}
	return b, err
}

// Look looks at the first bytes of c. With wait it blocks until they decide, or the read deadline
// of c passes. An error that comes with Undecided is os.ErrDeadlineExceeded, net.ErrClosed or that
// of the connection, inside a *net.OpError.
func Look(c *net.TCPConn, wait bool) (b Beginning, err error) {
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
			b = Beginning{judge(p.buf[:p.n], ended), p.n}
		}
		return b.Verdict != Undecided || failure != nil
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

// HungUp reports whether the peer has already closed or reset c, without sending a byte.
func HungUp(c *net.TCPConn) bool {
	rc, err := c.SyscallConn()
	if err != nil || !CanPeek {
		return err != nil
	}
	var p peeker
	hungUp := false
	err = rc.Control(func(fd uintptr) {
		ended, err := p.peek(fd)
		hungUp = err != nil || ended && p.n == 0
	})
	return hungUp || err != nil
}
