package tcpinfo

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Told is true where Of can say anything.
const Told = true

// Of returns what the kernel knows about c, and false if the system does not say.
func Of(c *net.TCPConn) (Info, bool) {
	rc, err := c.SyscallConn()
	if err != nil {
		return Info{}, false
	}
	var t *unix.TCPInfo
	if err2 := rc.Control(func(fd uintptr) {
		t, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil || err2 != nil {
		return Info{}, false
	}
	return Info{
		RoundTrip: time.Duration(t.Rtt) * time.Microsecond,
		Sent:      t.Data_segs_out > 0,
		Unacked:   t.Unacked > 0 || t.Notsent_bytes > 0,
		SinceAck:  time.Duration(t.Last_ack_recv) * time.Millisecond,
	}, true
}
