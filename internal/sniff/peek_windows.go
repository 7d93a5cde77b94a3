package sniff

import (
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	// CanPeek reports whether the system lets bytes be looked at.
	CanPeek = true

	fionread = 0x4004667f
	msgPeek  = 2
	// pollDelay is the wait between two looks at an incomplete MPA key, as readiness is not reported a
	// second time for bytes that stay in the socket.
	pollDelay = 5 * time.Millisecond
)

// peeker looks at the first bytes of a connection and leaves them there.
type peeker struct {
	buf    [headerLen]byte
	n      int
	there  int // not known
	looked bool
	errs   Errors // are left
}

// peek gets what is there without waiting: sockets of package net block here, so it asks for the
// number of bytes first. It is called again when the socket is readable.
func (p *peeker) peek(fd uintptr) (ended bool, err error) {
	h := windows.Handle(fd)
	var there, size uint32
	if err := windows.WSAIoctl(h, fionread, nil, 0, (*byte)(unsafe.Pointer(&there)), 4, &size, nil, 0); err != nil {
		return true, err
	}
	if there == 0 {
		// Readable without bytes is the peer's end, or its reset.
		ended = p.looked
		p.looked = true
		return ended, nil
	}
	if p.n > 0 {
		time.Sleep(pollDelay)
	}
	p.looked = true
	var n uint32
	flags := uint32(msgPeek)
	b := windows.WSABuf{Len: uint32(len(p.buf)), Buf: &p.buf[0]}
	if err := windows.WSARecv(h, &b, 1, &n, &flags, nil, nil); err != nil {
		return true, err
	}
	p.n = int(n)
	return false, nil
}
