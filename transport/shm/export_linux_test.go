package shm

import (
	"net/netip"
	"unsafe"

	"github.com/rdmanet/iwarp/transport"
)

func ptr(m []byte, at int) unsafe.Pointer { return unsafe.Pointer(&m[at]) }

// CloseLinks closes what is kept of connections that have ended, so that the next one is made from
// scratch.
func CloseLinks() {
	for _, t := range transport.Registered() {
		if t, ok := t.(*Transport); ok {
			CloseLinksOf(t)
		}
	}
}

// CloseLinksOf is CloseLinks for one Transport.
func CloseLinksOf(t *Transport) { t.room.clear() }

// MeetingName is where a listener on the address meets its clients.
func MeetingName(at netip.AddrPort) string { return meetingName(at, false) }

// Watch looks at all connections, as is done from time to time.
func Watch() { watch.look() }
