package shm

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netlink"
)

// tcpListener is what the kernel says about a listening socket of its TCP.
type tcpListener struct{ uid, inode uint32 }

var errNoListener = errors.New("nobody listens on the tcp port")

const (
	sockDiagByFamily = 20
	diagRequestLen   = 56 // struct inet_diag_req_v2
	diagAnswerLen    = 72 // struct inet_diag_msg
	tcpListen        = 10
)

// listenerAt asks the kernel for the socket that takes TCP connections to the address and port.
func listenerAt(at netip.AddrPort) (l tcpListener, err error) {
	s, err := netlink.Open(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return l, err
	}
	defer s.Close()
	found := false
	err = s.Ask(sockDiagByFamily, netlink.Ack, diagRequest(at), func(m []byte) error {
		if len(m) < diagAnswerLen {
			return netlink.ErrMalformed
		}
		if m[1] == tcpListen {
			found = true
			l = tcpListener{uid: netlink.Native.Uint32(m[64:]), inode: netlink.Native.Uint32(m[68:])}
		}
		return nil
	})
	if errors.Is(err, syscall.ENOENT) || err == nil && !found {
		err = errNoListener
	}
	return l, err
}

// diagRequest is for one socket, which the kernel looks up as for a SYN.
func diagRequest(at netip.AddrPort) []byte {
	r := make([]byte, diagRequestLen)
	r[0], r[1] = unix.AF_INET6, unix.IPPROTO_TCP
	netlink.Native.PutUint32(r[4:], 1<<tcpListen)
	binary.BigEndian.PutUint16(r[8:], at.Port())
	if at.Addr().Is4() {
		r[0] = unix.AF_INET
	}
	copy(r[12:28], at.Addr().AsSlice())
	copy(r[28:44], at.Addr().AsSlice())
	netlink.Native.PutUint32(r[44:], scopeOf(at.Addr()))
	netlink.Native.PutUint64(r[48:], 1<<64-1) // no cookie
	return r
}
