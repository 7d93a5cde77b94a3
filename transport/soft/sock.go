package soft

import (
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/instant"
)

// A sock is the kernel TCP connection below a queue pair, used through the runtime's poller without
// blocking.
type sock struct {
	c  *net.TCPConn // with rc, replaced at most once, before the queue pair is connected
	rc syscall.RawConn

	platform platformSock

	mu     sync.Mutex // guards the deadlines that the connection has at present, and the connection while it may be replaced
	rd, wd deadline
}

// A deadline is set by the one goroutine that may block on it, and kicked into the past by others.
// A kick lasts until that goroutine has seen it, because the poller forgets a deadline that is put
// back at once.
type deadline struct{ at atomic.Int64 } // an instant.Time, or kicked

// kicked stands for a deadline in the past that a kick has set.
const kicked = math.MinInt64

func (d *deadline) kick() { d.at.Store(kicked) }

func (d *deadline) kicked() bool { return d.at.Load() == kicked }

// is reports whether the deadline is t, and not that of a kick.
func (d *deadline) is(t time.Time) bool { return d.at.Load() == mark(t) }

func (d *deadline) set(t time.Time) { d.at.Store(mark(t)) }

// mark returns t as a deadline has it.
func mark(t time.Time) int64 { return max(int64(instant.Of(t)), kicked+1) }

// use makes c the connection below.
func (q *queuePair) use(c *net.TCPConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	s := &q.sock
	s.mu.Lock()
	defer s.mu.Unlock()
	s.c, s.rc = c, rc
	s.rd.set(time.Time{})
	s.wd.set(time.Time{})
	q.sockClosed = false
	return nil
}

func (s *sock) addrs() (local, remote netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return addrPort(s.c.LocalAddr()), addrPort(s.c.RemoteAddr())
}

// addrPort keeps the form that the socket's family gives an address: on a socket of both families
// IPv4 is mapped to IPv6.
func addrPort(a net.Addr) netip.AddrPort {
	t, _ := a.(*net.TCPAddr)
	return t.AddrPort()
}

// past is a deadline that makes a blocked call return.
var past = time.Unix(1, 0)

// kick makes whoever is blocked on the connection look around.
func (s *sock) kick() {
	s.mu.Lock()
	s.rd.kick()
	s.wd.kick()
	_ = s.c.SetDeadline(past)
	s.mu.Unlock()
}

// kickReader is kick for the holder of the receive token alone.
func (s *sock) kickReader() {
	s.mu.Lock()
	s.rd.kick()
	_ = s.c.SetReadDeadline(past)
	s.mu.Unlock()
}

// setReadDeadline is called by the holder of the receive token before it blocks.
func (s *sock) setReadDeadline(t time.Time) { s.set(&s.rd, t, s.c.SetReadDeadline) }

// setWriteDeadline is called by the holder of the transmit token before it blocks.
func (s *sock) setWriteDeadline(t time.Time) { s.set(&s.wd, t, s.c.SetWriteDeadline) }

func (s *sock) set(d *deadline, t time.Time, set func(time.Time) error) {
	if d.is(t) {
		return // a kick from now on sets a deadline after this one
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.set(t)
	_ = set(t)
}

// resetDeadlines clears what the connection set-up has left.
func (s *sock) resetDeadlines() {
	s.mu.Lock()
	s.rd.set(time.Time{})
	s.wd.set(time.Time{})
	_ = s.c.SetDeadline(time.Time{})
	s.mu.Unlock()
}

// closeSock closes the connection below once. No lock is held over that, as it waits for calls
// under way to leave the connection, and these may kick it.
func (q *queuePair) closeSock() {
	q.sock.mu.Lock()
	c, closed := q.sock.c, q.sockClosed
	q.sockClosed = true
	q.sock.mu.Unlock()
	if closed {
		return
	}
	_ = c.Close()
	if t := q.trace.Load(); t != nil {
		t.Over()
	}
}

// abortSock closes the connection below by a reset.
func (q *queuePair) abortSock() {
	q.sock.mu.Lock()
	_ = q.sock.c.SetLinger(0)
	q.sock.mu.Unlock()
	q.closeSock()
}

// SetKeepAliveConfig sets the keepalive of the kernel connection, as net.TCPConn does.
func (q *queuePair) SetKeepAliveConfig(c net.KeepAliveConfig) error {
	return q.sock.c.SetKeepAliveConfig(c)
}

// SetKeepAlivePeriod sets how long the kernel connection may be idle before the first probe, as
// net.TCPConn does.
func (q *queuePair) SetKeepAlivePeriod(d time.Duration) error { return q.sock.c.SetKeepAlivePeriod(d) }

// SetNoDelay sets whether the kernel sends small segments at once, which is the default.
func (q *queuePair) SetNoDelay(on bool) error { return q.sock.c.SetNoDelay(on) }

// SetReadBuffer sets the size in bytes of the kernel's receive buffer.
func (q *queuePair) SetReadBuffer(n int) error { return q.sock.c.SetReadBuffer(n) }

// SetWriteBuffer sets the size in bytes of the kernel's transmit buffer.
func (q *queuePair) SetWriteBuffer(n int) error { return q.sock.c.SetWriteBuffer(n) }

// defaultMSS is assumed where the system does not say: that of Ethernet with TCP timestamps.
const defaultMSS = 1448
