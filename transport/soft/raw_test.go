package soft_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// A rawPeer is the other end of a queue pair's TCP connection. It speaks bytes.
type rawPeer struct {
	t testing.TB
	c *net.TCPConn
}

// tcpPair returns the two ends of a TCP connection over loopback.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer ln.Close()
	a, err = net.DialTCP("tcp4", nil, ln.Addr().(*net.TCPAddr))
	require.NoError(t, err)
	b, err = ln.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { // which also keeps the collector from closing what a test does not use
		a.Close()
		b.Close()
	})
	return a, b
}

func rawConn(t testing.TB, c *net.TCPConn) *rawPeer {
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(soon()))
	return &rawPeer{t: t, c: c}
}

// A role is how a queue pair comes to be connected with a raw peer.
type role struct {
	cfg     *soft.Config
	opts    *transport.Options
	frame   mpa.Frame // what the peer sends; the zero value means revision 2, CRC, no RTR, depths of 16
	glued   []byte    // what it sends right after its reply
	prepare func(transport.QueuePair)
}

func (r *role) peerFrame(reply bool) []byte {
	f := r.frame
	if f.Revision == 0 {
		f = mpa.Frame{Revision: mpa.Rev2, Flags: mpa.FlagEnhanced | mpa.FlagCRC, Enhanced: mpa.Enhanced{IRD: 16, ORD: 16}}
	}
	f.Reply = reply
	b, err := f.Append(nil)
	if err != nil {
		panic(err)
	}
	return b
}

// responder connects a queue pair that answers, with a raw initiator. The peer has read the reply,
// which is returned.
func (r role) responder(t testing.TB) (transport.QueuePair, *rawPeer, mpa.Frame) {
	t.Helper()
	a, b := tcpPair(t)
	p := rawConn(t, a)
	p.write(r.peerFrame(false))
	req, err := soft.New(r.cfg).Server(testContext(t), b, r.opts)
	require.NoError(t, err)
	q := req.QueuePair()
	t.Cleanup(func() { q.Close() })
	if r.prepare != nil {
		r.prepare(q)
	}
	require.NoError(t, req.Accept(testContext(t), []byte("welcome")))
	return q, p, p.frame(true)
}

// initiator connects a queue pair that asks, with a raw responder. The peer has read the request,
// which is returned.
func (r role) initiator(t testing.TB) (transport.QueuePair, *rawPeer, mpa.Frame) {
	t.Helper()
	a, b := tcpPair(t)
	p := rawConn(t, b)
	p.write(append(r.peerFrame(true), r.glued...))
	c, err := soft.New(r.cfg).Client(a, r.opts)
	require.NoError(t, err)
	q := c.QueuePair()
	t.Cleanup(func() { q.Close() })
	if r.prepare != nil {
		r.prepare(q)
	}
	_, err = c.Connect(testContext(t), []byte("hello"))
	require.NoError(t, err)
	return q, p, p.frame(false)
}

func (p *rawPeer) write(b []byte) {
	p.t.Helper()
	_, err := p.c.Write(b)
	require.NoError(p.t, err)
}

// frame reads one start-up frame and no byte more.
func (p *rawPeer) frame(reply bool) mpa.Frame {
	p.t.Helper()
	b := make([]byte, mpa.FrameHeaderLen)
	_, err := io.ReadFull(p.c, b)
	require.NoError(p.t, err)
	n, err := mpa.ParseHeader(b, reply)
	require.NoError(p.t, err)
	b = append(b, make([]byte, n-len(b))...)
	_, err = io.ReadFull(p.c, b[mpa.FrameHeaderLen:])
	require.NoError(p.t, err)
	f, err := mpa.Parse(b, reply)
	require.NoError(p.t, err)
	return f
}

// segment reads one FPDU with a good CRC.
func (p *rawPeer) segment() (rdmap.Segment, error) {
	var head [mpa.LengthLen]byte
	if _, err := io.ReadFull(p.c, head[:]); err != nil {
		return rdmap.Segment{}, err
	}
	n, _ := mpa.Peek(head[:])
	fpdu := append(head[:], make([]byte, n-len(head))...)
	if _, err := io.ReadFull(p.c, fpdu[len(head):]); err != nil {
		return rdmap.Segment{}, err
	}
	ulpdu, err := mpa.CheckFPDU(fpdu, true)
	if err != nil {
		return rdmap.Segment{}, err
	}
	return rdmap.Validate(ulpdu)
}

func (p *rawPeer) next() rdmap.Segment {
	p.t.Helper()
	s, err := p.segment()
	require.NoError(p.t, err)
	return s
}

// nextOfUser is next without the empty Writes that an initiator sends until it hears from its peer.
func (p *rawPeer) nextOfUser() rdmap.Segment {
	p.t.Helper()
	s := p.next()
	for s.Op == rdmap.OpWrite && len(s.Payload) == 0 {
		s = p.next()
	}
	return s
}

// terminated reads up to a Terminate, after which nothing but the end of the stream may come.
func (p *rawPeer) terminated() rdmap.Terminate {
	p.t.Helper()
	for {
		s := p.next()
		if s.Op != rdmap.OpTerminate {
			continue
		}
		require.True(p.t, s.U.Last)
		require.EqualValues(p.t, 1, s.U.MSN)
		msg, err := rdmap.ParseTerminate(s.Payload)
		require.NoError(p.t, err)
		p.ended()
		return msg
	}
}

// ended expects the orderly end of the stream.
func (p *rawPeer) ended() {
	p.t.Helper()
	n, err := p.c.Read(make([]byte, 1))
	require.Zero(p.t, n)
	require.Equal(p.t, io.EOF, err)
}

// silent expects that nothing but empty Writes comes for a while.
func (p *rawPeer) silent(d time.Duration) {
	p.t.Helper()
	require.Empty(p.t, bytes.ReplaceAll(p.within(d), rtrWrite(), nil))
}

// within returns what comes before d has passed.
func (p *rawPeer) within(d time.Duration) []byte {
	p.t.Helper()
	require.NoError(p.t, p.c.SetReadDeadline(time.Now().Add(d)))
	b, err := io.ReadAll(p.c)
	require.ErrorIs(p.t, err, os.ErrDeadlineExceeded)
	require.NoError(p.t, p.c.SetDeadline(soon()))
	return b
}

// seal makes an FPDU with a CRC of a ULPDU.
func seal(ulpdu []byte) []byte {
	b := make([]byte, mpa.FPDULen(len(ulpdu)))
	copy(b[mpa.LengthLen:], ulpdu)
	return mpa.Seal(b, len(ulpdu), true)
}

func tagged(op rdmap.Opcode, last bool, stag transport.STag, to uint64, payload []byte) []byte {
	h := ddp.Tagged{Last: last, ULP: rdmap.Control(op), STag: uint32(stag), TO: to}
	return seal(append(h.Append(nil), payload...))
}

// an untaggedHeader without MSN gets 1.
type untaggedHeader struct {
	op         rdmap.Opcode
	more       bool
	qn         uint32
	msn, mo    uint32
	invalidate transport.STag
}

func untagged(u untaggedHeader, payload []byte) []byte {
	h := ddp.Untagged{Last: !u.more, ULP: rdmap.Control(u.op), ULPWord: uint32(u.invalidate), QN: u.qn, MSN: u.msn, MO: u.mo}
	if h.MSN == 0 {
		h.MSN = 1
	}
	return seal(append(h.Append(nil), payload...))
}

func write(stag transport.STag, to uint64, payload []byte) []byte {
	return tagged(rdmap.OpWrite, true, stag, to, payload)
}

func send(msn uint32, payload []byte) []byte {
	return untagged(untaggedHeader{op: rdmap.OpSend, msn: msn}, payload)
}

func readRequest(msn uint32, r rdmap.ReadRequest) []byte {
	b := make([]byte, rdmap.ReadRequestLen)
	r.Put(b)
	return untagged(untaggedHeader{op: rdmap.OpReadRequest, qn: ddp.QueueRead, msn: msn}, b)
}

func terminateFPDU(bytes ...byte) []byte {
	return untagged(untaggedHeader{op: rdmap.OpTerminate, qn: ddp.QueueTerminate}, bytes)
}

// rtrWrite is the start-up frame that opens a responder's gate and does nothing else.
func rtrWrite() []byte { return write(1, 0, nil) }

// patch returns b with the CRC made good again after f has changed it.
func patch(b []byte, f func(b []byte)) []byte {
	f(b)
	body := b[:len(b)-mpa.CRCLen]
	binary.LittleEndian.PutUint32(b[len(body):], mpa.CRC(body))
	return b
}

func concat(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
