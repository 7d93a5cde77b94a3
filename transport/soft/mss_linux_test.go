package soft_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

// Without an agreement an FPDU fits one segment of the TCP connection (RFC 5044 §5.1), of which
// RNICs take no more.
func TestFPDUsFitTheSegmentsOfTCP(t *testing.T) {
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer ln.Close()
	d := net.Dialer{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1460) })
		return err
	}}
	c, err := d.Dial("tcp4", ln.Addr().String())
	require.NoError(t, err)
	p := rawConn(t, c.(*net.TCPConn))
	accepted, err := ln.AcceptTCP()
	require.NoError(t, err)
	p.write(start(requestKey, 0x40, 1, nil))
	req, err := soft.New(nil).Server(testContext(t), accepted, nil)
	require.NoError(t, err)
	q := req.QueuePair()
	defer q.Close()
	require.NoError(t, req.Accept(testContext(t), nil))
	p.frame(true)
	p.write(rtrWrite())
	a := q.Attributes()
	require.LessOrEqual(t, a.MaxSegment, 1460)
	require.Greater(t, a.MaxSegment, 1400)
	data := random(300_000)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: data})
	var got []byte
	for last := false; !last; {
		s := p.next()
		n := mpa.FPDULen(len(s.Payload) + ddp.UntaggedLen)
		require.LessOrEqual(t, n, a.MaxSegment)
		got, last = append(got, s.Payload...), s.U.Last
		if !last {
			require.Greater(t, n, a.MaxSegment-4, "every other one is as long as it may be")
		}
	}
	require.Equal(t, data, got)
}
