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

		State: t.State, Received: t.Bytes_received, Written: t.Bytes_sent - min(t.Bytes_retrans, t.Bytes_sent),
		SegmentsIn: uint64(t.Data_segs_in), SegmentsOut: uint64(t.Data_segs_out), Retransmitted: uint64(t.Total_retrans), MSS: int(t.Snd_mss),
	}, true
}
