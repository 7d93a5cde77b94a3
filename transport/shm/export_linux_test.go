package shm

import (
	"net/netip"
	"unsafe"
)

func ptr(m []byte, at int) unsafe.Pointer { return unsafe.Pointer(&m[at]) }

// MeetingName is where a listener on the address meets its clients.
func MeetingName(at netip.AddrPort) string { return meetingName(at, false) }
