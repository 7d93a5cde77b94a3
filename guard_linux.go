package iwarp

import (
	"encoding/binary"
	"net"
	"time"
	"unsafe"
	"weak"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/sniff"
)

// A client that is silent is handed out as plain TCP, for services that speak first. Should its
// first bytes be an MPA request after all, they came too late, and the application must not read
// them as its own protocol. It owns the socket by then, so the kernel has to see to it: a filter
// drops the one segment that starts with the first byte of the connection and is an MPA
// request, or the beginning of one. The filter knows the segment by its sequence number, and leaves
// all others alone.
//
// Nothing can be read behind what was dropped, not even the end of the connection. So the reading
// side is looked at now and then while the client is silent, and shut once a request was dropped:
// the application reads io.EOF, and a client that waits for a reply is told when the application
// hangs up. Then it falls back, or fails.

// keepStarts has the kernel keep the SYN of each connection to come, which has its sequence number,
// and reports whether it does. If the user has asked for it, it is the user's, but on an adopted
// socket it is more likely to be of the Listener that was there before.
func keepStarts(l *net.TCPListener, adopted bool) bool {
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

// guard is a filter on a connection.
type guard struct {
	rules int // of the filter, 0 if there is none

	// What came in before the filter was there.
	bytes           uint64
	segments, drops uint32
}

// guardStart has an MPA request dropped that h may still send. It does nothing where the kernel
// does not know the start, as with SYN cookies, or the socket has a filter of the user's.
func guardStart(h *halfOpen) (g guard) {
	rc, err := h.c.SyscallConn()
	if err != nil {
		return guard{}
	}
	_ = rc.Control(func(fd uintptr) {
		if h.start == nil {
			h.start = startOf(int(fd))
		}
		if h.start == nil || h.said >= len(sniff.Key) || filterLen(int(fd)) != 0 {
			return
		}
		g.bytes, g.segments = received(int(fd))
		g.drops = dropsOf(int(fd))
		filter := dropAt(uint32(*h.start)+uint32(h.said), sniff.Key[h.said:], max(1, tellingPart-h.said))
		if attach(int(fd), filter) == nil {
			g.rules = len(filter)
		}
	})
	return g
}

// drop takes the filter away.
func (g guard) drop(c *net.TCPConn) {
	rc, err := c.SyscallConn()
	if g.rules > 0 && err == nil {
		_ = rc.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
	}
}

const (
	// firstLook is when a connection is looked at for the first time, and each later look takes
	// twice as long to come, up to lastLook. A request that comes later still leaves the
	// application to TCP keep-alive, which notices when the client's kernel has given up.
	firstLook = 100 * time.Millisecond
	lastLook  = time.Minute
)

// watch shuts the reading side of c if the filter drops a request, and calls late then. It does not
// keep c.
func (g guard) watch(c *net.TCPConn, late func()) {
	if g.rules > 0 {
		g.lookIn(firstLook, weak.Make(c), late)
	}
}

func (g guard) lookIn(wait time.Duration, conn weak.Pointer[net.TCPConn], late func()) {
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

// look reports whether the filter has dropped a request, or is over as the client has said
// something else.
func (g guard) look(c *net.TCPConn) (dropped, over bool) {
	rc, err := c.SyscallConn()
	if err != nil {
		return false, true
	}
	err = rc.Control(func(fd uintptr) {
		// Whatever else the kernel drops, such as keep-alive probes, has passed the filter, and
		// counts as a segment first. So it does not matter what comes between these calls.
		drops := dropsOf(int(fd)) - g.drops
		bytes, segments := received(int(fd))
		over = bytes != g.bytes || filterLen(int(fd)) != g.rules
		dropped = !over && int32(drops) > int32(segments-g.segments)
	})
	return dropped, over || err != nil
}

// received returns how many bytes have come in order, and how many segments have passed the filter.
func received(fd int) (bytes uint64, segments uint32) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0
	}
	return info.Bytes_received, info.Segs_in
}

// dropsOf returns how many segments have been dropped, 0 if the kernel does not tell.
func dropsOf(fd int) uint32 {
	var mem [unix.SK_MEMINFO_DROPS + 1]uint32
	_, _ = getsockopt(fd, unix.SOL_SOCKET, unix.SO_MEMINFO, unsafe.Slice((*byte)(unsafe.Pointer(&mem)), unsafe.Sizeof(mem)))
	return mem[unix.SK_MEMINFO_DROPS]
}

// refuseNew has no more clients connect to l, and reports whether that is so. Those whose
// connection is being set up still come in.
func refuseNew(l *net.TCPListener) (refuses bool) {
	rc, err := l.SyscallConn()
	if err != nil {
		return false
	}
	_ = rc.Control(func(fd uintptr) {
		refuses = filterLen(int(fd)) == 0 && attach(int(fd), []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: tcpFlags},
			{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: tcpSYN, Jf: 1},
			{Code: unix.BPF_RET | unix.BPF_K, K: 0},
			{Code: unix.BPF_RET | unix.BPF_K, K: whole},
		}) == nil
	})
	return refuses
}

// Offsets in a TCP header, with which a filter's view of a segment begins (RFC 9293 §3.1).
const (
	tcpSeq    = 4
	tcpOffset = 12
	tcpFlags  = 13
	tcpMinLen = 20
	tcpFIN    = 0x01
	tcpSYN    = 0x02

	whole = 0x7fffffff // verdict of a filter that drops nothing
)

// dropAt is a filter for segments that have text at a sequence number, or begin with at least so
// many bytes of it and end there without ending the connection.
func dropAt(seq uint32, text string, least int) []unix.SockFilter {
	const ( // where to jump
		next = iota
		part
		drop
		keep
	)
	const length = 0 // the memory cell for that of the payload
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: tcpSeq},
		jump(unix.BPF_JEQ, seq, next, keep),
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: tcpOffset}, // X = length of the header
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 2},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x3c},
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_ALU | unix.BPF_SUB | unix.BPF_X},
		{Code: unix.BPF_ST, K: length},
		jump(unix.BPF_JGE, uint32(least), next, keep),
	}
	for i := range len(text) {
		if i >= least {
			prog = append(prog, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_MEM, K: length}, jump(unix.BPF_JGT, uint32(i), next, part))
		}
		prog = append(prog, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: uint32(i)}, jump(unix.BPF_JEQ, uint32(text[i]), next, keep))
	}
	prog[len(prog)-1].Jt = drop
	at := [...]int{part: len(prog), drop: len(prog) + 2, keep: len(prog) + 3}
	prog = append(prog,
		unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: tcpFlags},
		jump(unix.BPF_JSET, tcpFIN, keep, drop),
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: whole},
	)
	for i, step := range prog {
		if step.Code&7 != unix.BPF_JMP {
			continue
		}
		for _, to := range []*uint8{&prog[i].Jt, &prog[i].Jf} {
			if *to != next {
				*to = uint8(at[*to] - i - 1)
			}
		}
	}
	return prog
}

func attach(fd int, prog []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}

// filterLen returns the length of the filter that fd has, -1 if it may have one.
func filterLen(fd int) int {
	n, err := getsockopt(fd, unix.SOL_SOCKET, unix.SO_GET_FILTER, nil)
	if err != nil {
		return -1
	}
	return n
}

// seqNumber is of the first byte that a peer sends.
type seqNumber uint32

// startOf returns the start of a connection, if the kernel tells it, which it does once.
func startOf(fd int) *seqNumber {
	var syn [256]byte // headers of the network and of TCP
	n, err := getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_SAVED_SYN, syn[:])
	if err != nil {
		return nil
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
		return nil
	}
	start := seqNumber(binary.BigEndian.Uint32(b[skip+tcpSeq:]) + 1)
	return &start
}

// getsockopt returns how much there is, of which b gets what it has room for.
func getsockopt(fd, level, option int, b []byte) (int, error) {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(size), nil
}
