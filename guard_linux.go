package iwarp

import (
	"encoding/binary"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A client that is silent is handed out as plain TCP, for services that speak first. Should its
// first bytes be an MPA request after all, they came too late, and the application must not read
// them as its own protocol. It owns the socket by then, so the kernel has to see to it: a filter
// drops the one segment that starts with the first byte of the connection and is an MPA
// request. The client takes the silence for what it is and falls back, or fails. The filter
// knows the segment by its sequence number, and leaves all others alone.

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
type guard bool

// guardStart has an MPA request dropped that h may still send. It does nothing where the kernel
// does not know the start, as with SYN cookies, or the socket has a filter of the user's.
func guardStart(h *halfOpen) (g guard) {
	rc, err := h.c.SyscallConn()
	if err != nil {
		return false
	}
	_ = rc.Control(func(fd uintptr) {
		if h.start == nil {
			h.start = startOf(int(fd))
		}
		if h.start != nil && h.said < keyLen && !hasFilter(int(fd)) {
			g = attach(int(fd), dropAt(uint32(*h.start)+uint32(h.said), mpaKey[h.said:])) == nil
		}
	})
	return g
}

// drop takes the filter away.
func (g guard) drop(c *net.TCPConn) {
	rc, err := c.SyscallConn()
	if g && err == nil {
		_ = rc.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
	}
}

// refuseNew has no more clients connect to l, and reports whether that is so. Those whose
// connection is being set up still come in.
func refuseNew(l *net.TCPListener) (refuses bool) {
	rc, err := l.SyscallConn()
	if err != nil {
		return false
	}
	_ = rc.Control(func(fd uintptr) {
		refuses = !hasFilter(int(fd)) && attach(int(fd), []unix.SockFilter{
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
	tcpSYN    = 0x02

	whole = 0x7fffffff // verdict of a filter that drops nothing
)

// dropAt is a filter for segments that have text at a sequence number.
func dropAt(seq uint32, text string) []unix.SockFilter {
	const (
		keep = iota // jumps to be resolved
		next
	)
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op, K: k, Jt: yes, Jf: no}
	}
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: tcpSeq},
		jump(unix.BPF_JEQ|unix.BPF_K, seq, next, keep),
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: tcpOffset}, // X = length of the header
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 2},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x3c},
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_ALU | unix.BPF_SUB | unix.BPF_X},
		jump(unix.BPF_JGE|unix.BPF_K, uint32(len(text)), next, keep),
	}
	for i := 0; i < len(text); {
		size, n, v := uint16(unix.BPF_B), 1, uint32(text[i])
		if len(text)-i >= 4 {
			size, n, v = unix.BPF_W, 4, binary.BigEndian.Uint32([]byte(text[i:i+4]))
		}
		prog = append(prog, unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_IND, K: uint32(i)}, jump(unix.BPF_JEQ|unix.BPF_K, v, next, keep))
		i += n
	}
	last := len(prog) + 1
	for i := range prog {
		if prog[i].Code&7 != unix.BPF_JMP {
			continue
		}
		if prog[i].Jt == keep {
			prog[i].Jt = uint8(last - i - 1)
		} else {
			prog[i].Jt = 0
		}
		prog[i].Jf = uint8(last - i - 1)
	}
	return append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: whole})
}

func attach(fd int, prog []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}

// hasFilter reports whether fd may have a filter.
func hasFilter(fd int) bool {
	n, err := getsockopt(fd, unix.SOL_SOCKET, unix.SO_GET_FILTER, nil)
	return err != nil || n > 0
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
