package guard

import (
	"net"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/sockfilter"
)

// RefuseNew keeps new clients from connecting to l, and reports whether it could. Those whose
// connection is being set up still come in.
func RefuseNew(l *net.TCPListener) (refuses bool) {
	rc, err := l.SyscallConn()
	if err != nil {
		return false
	}
	_ = rc.Control(func(fd uintptr) {
		refuses = sockfilter.Len(int(fd)) == 0 && sockfilter.Attach(int(fd), []unix.SockFilter{
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
	tcpFlags  = 13
	tcpMinLen = 20
	tcpFIN    = 0x01
	tcpSYN    = 0x02

	whole = 0x7fffffff // verdict of a filter that drops nothing
)

// dropAt is a filter for segments that have text at a sequence number, or begin with at least that
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
	}
	prog = append(prog, sockfilter.HeaderLen[:]...)
	prog = append(prog, []unix.SockFilter{
		{Code: unix.BPF_MISC | unix.BPF_TAX}, // X = length of the header
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_ALU | unix.BPF_SUB | unix.BPF_X},
		{Code: unix.BPF_ST, K: length},
		jump(unix.BPF_JGE, uint32(least), next, keep),
	}...)
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
