package guard

import (
	"encoding/binary"
	"net"
	"time"
	"unsafe"
	"weak"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/sockfilter"
)

// KeepStarts makes the kernel keep the SYN of each connection to come, which has its sequence
// number, and reports whether it does. If the user has asked for the SYN, it is the user's, but on
// an adopted socket it was more likely the previous Listener that asked.
func KeepStarts(l *net.TCPListener, adopted bool) bool {
	rc, err := l.SyscallConn()
	if err != nil {
		return false
	}
	keeps := false
	_ = rc.Control(func(fd uintptr) {
		kept, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SAVE_SYN)
		if err == nil && (kept == 0 || adopted) {
			keeps = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1) == nil
		}
	})
	return keeps
}

// A Guard is a filter on a connection.
type Guard struct {
	rules int // of the filter, 0 if there is none

	// What came in before the filter was there.
	bytes           uint64
	segments, drops uint32
	counted         bool // the kernel reports these
}

// On drops the rest of a text that the peer of c may still send, of which it has sent said bytes,
// and beginnings of the rest that have at least least bytes. It does nothing where the kernel does
// not know the start, as with SYN cookies, or the socket has a filter of the user's.
func On(c *net.TCPConn, start *Start, text string, said, least int) (g Guard) {
	rc, err := c.SyscallConn()
	if err != nil || said >= len(text) {
		return Guard{}
	}
	_ = rc.Control(func(fd uintptr) {
		if !start.known {
			*start = startOf(int(fd))
		}
		if !start.known || sockfilter.Len(int(fd)) != 0 {
			return
		}
		g.bytes, g.segments, g.counted = received(int(fd))
		g.drops = dropsOf(int(fd))
		filter := dropAt(start.seq+uint32(said), text[said:], least)
		if sockfilter.Attach(int(fd), filter) == nil {
			g.rules = len(filter)
		}
	})
	return g
}

// Lift takes the filter away.
func (g Guard) Lift(c *net.TCPConn) {
	rc, err := c.SyscallConn()
	if g.rules > 0 && err == nil {
		_ = rc.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
	}
}

const (
	// firstLook is when a connection is first checked; the time to each later look doubles, up to
	// lastLook. A request that comes even later leaves the application to TCP keep-alive, which
	// notices when the client's kernel has given up.
	firstLook = 100 * time.Millisecond
	lastLook  = time.Minute
)

// Watch shuts the reading side of c if the filter drops a request, and calls late then. It does not
// keep c.
func (g Guard) Watch(c *net.TCPConn, late func()) {
	if g.rules > 0 && g.counted {
		g.lookIn(firstLook, weak.Make(c), late)
	}
}

func (g Guard) lookIn(wait time.Duration, conn weak.Pointer[net.TCPConn], late func()) {
	time.AfterFunc(wait, func() {
		c := conn.Value()
		if c == nil {
			return
		}
		switch dropped, over := g.look(c); {
		case dropped:
			late()
			_ = c.CloseRead()
		case !over && 2*wait <= lastLook:
			g.lookIn(2*wait, conn, late)
		}
	})
}

// look reports whether the filter has dropped a request, or is over because the client has said
// something else.
func (g Guard) look(c *net.TCPConn) (dropped, over bool) {
	rc, err := c.SyscallConn()
	if err != nil {
		return false, true
	}
	err = rc.Control(func(fd uintptr) {
		// Whatever else the kernel drops, such as keep-alive probes, has passed the filter, and
		// counts as a segment first. So it does not matter what comes between these calls.
		drops := dropsOf(int(fd)) - g.drops
		bytes, segments, counted := received(int(fd))
		over = !counted || bytes != g.bytes || sockfilter.Len(int(fd)) != g.rules
		dropped = !over && int32(drops) > int32(segments-g.segments)
	})
	return dropped, over || err != nil
}

// received returns how many bytes have come in order, and how many segments have passed the filter,
// if the kernel says.
func received(fd int) (bytes uint64, segments uint32, ok bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0, false
	}
	return info.Bytes_received, info.Segs_in, true
}

// dropsOf returns how many segments have been dropped, 0 if the kernel does not say.
func dropsOf(fd int) uint32 {
	var mem [unix.SK_MEMINFO_DROPS + 1]uint32
	_, _ = getsockopt(fd, unix.SOL_SOCKET, unix.SO_MEMINFO, unsafe.Slice((*byte)(unsafe.Pointer(&mem)), unsafe.Sizeof(mem)))
	return mem[unix.SK_MEMINFO_DROPS]
}

// startOf returns the start of a connection, if the kernel reports it, which it does once.
func startOf(fd int) Start {
	var syn [256]byte // headers of the network and of TCP
	n, err := getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_SAVED_SYN, syn[:])
	if err != nil {
		return Start{}
	}
	b := syn[:n]
	skip := 0
	switch {
	case n > 0 && b[0]>>4 == 4:
		skip = int(b[0]&0xf) * 4
	case n >= 40 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_TCP:
		skip = 40
	}
	if skip == 0 || n < skip+tcpMinLen || b[skip+tcpFlags]&tcpSYN == 0 {
		return Start{}
	}
	return Start{true, binary.BigEndian.Uint32(b[skip+tcpSeq:]) + 1}
}
