// Package sniff finds out what the first bytes of a connection say, and leaves them there.
package sniff

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
)

// Key begins every MPA request (RFC 5044 §7.1.1).
const Key = "MPA ID Req Frame"

const (
	// headerLen is the length of what tells how long a request is: the key, two bytes of something
	// else, and the number of the bytes that follow.
	headerLen = len(Key) + 4
	// glimpseLen is room for a request of this module.
	glimpseLen = 192
)

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
	N       int  // bytes that are there, up to the length of the key
	Whole   bool // all of an MPA request is there, as far as is known
}

// FirstBytes waits for what c begins with, until its read deadline. What is there by then counts,
// even if nobody has looked in time.
func FirstBytes(c *net.TCPConn, errs Errors) (Beginning, error) {
	b, err := Look(c, true, errs)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		late, lateErr := Look(c, false, errs)
		if late.Verdict != Undecided || lateErr != nil {
			return late, lateErr
		}
		b.N = late.N
	}
	return b, err
}

// Errors says what becomes of an error of a connection, such as its reset, which the kernel tells
// once.
type Errors uint8

// The ways.
const (
	Leave Errors = iota // to whoever reads the connection next
	Take                // as nobody else will; that takes fewer calls of the system
)

// Look looks at the first bytes of c. With wait it blocks until they decide, or the read deadline
// of c passes. An error that comes with Undecided is os.ErrDeadlineExceeded, net.ErrClosed or that
// of the connection, inside a *net.OpError.
func Look(c *net.TCPConn, wait bool, errs Errors) (b Beginning, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return b, err
	}
	l := lookers.Get().(*looker)
	defer l.release()
	l.errs = errs
	if wait {
		err = rc.Read(l.look)
	} else {
		err = rc.Control(l.glance)
	}
	if err == nil {
		err = l.err
	}
	return l.found, err
}

// A looker is what a call of Look needs.
type looker struct {
	peeker
	found Beginning
	err   error // of the connection

	look   func(fd uintptr) (decided bool)
	glance func(fd uintptr) // look once
}

var lookers = sync.Pool{New: func() any {
	l := new(looker)
	l.look = l.lookAt
	l.glance = func(fd uintptr) { l.lookAt(fd) }
	return l
}}

func (l *looker) lookAt(fd uintptr) (decided bool) {
	var ended bool
	ended, l.err = l.peek(fd)
	if l.err == nil {
		l.found = Beginning{Verdict: judge(l.buf[:l.n], ended), N: min(l.n, len(Key))}
		l.found.Whole = l.found.Verdict == IWARPRequest && l.n >= headerLen &&
			l.there >= headerLen+int(binary.BigEndian.Uint16(l.buf[headerLen-2:]))
	}
	return l.found.Verdict != Undecided || l.err != nil
}

func (l *looker) release() {
	l.peeker, l.found, l.err = peeker{}, Beginning{}, nil
	lookers.Put(l)
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
