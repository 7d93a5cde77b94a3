package iwarp

import (
	"net"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/internal/keepalive"
	"github.com/rdmanet/iwarp/internal/ports"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// deviceQP is the queue pair of a device's connection in the world of sockets. For as long as it
// lives, a socket holds its port in the kernel's port space; its addresses are those that users of
// the service know.
type deviceQP struct {
	transport.QueuePair
	port          *ports.Endpoint // nil if the device takes its ports from the kernel without help
	local, remote uint16          // ports of the addresses; 0 means those of the queue pair
}

var (
	_ transport.Wrapper    = (*deviceQP)(nil)
	_ transport.LastCloser = (*deviceQP)(nil) // As would walk past it, and its port would never be given back
)

// Unwrap implements transport.Wrapper.
func (q *deviceQP) Unwrap() transport.QueuePair { return q.QueuePair }

func (q *deviceQP) LocalAddr() netip.AddrPort { return withPort(q.QueuePair.LocalAddr(), q.local) }

func (q *deviceQP) RemoteAddr() netip.AddrPort { return withPort(q.QueuePair.RemoteAddr(), q.remote) }

func withPort(a netip.AddrPort, port uint16) netip.AddrPort {
	if port == 0 {
		return a
	}
	return netip.AddrPortFrom(a.Addr(), port)
}

func (q *deviceQP) Close() error {
	defer q.leavePort()
	return q.QueuePair.Close()
}

// CloseLast implements transport.LastCloser, by Close where the device's queue pair does not.
func (q *deviceQP) CloseLast() error {
	defer q.leavePort()
	if l, ok := transport.As[transport.LastCloser](q.QueuePair); ok {
		return l.CloseLast()
	}
	return q.QueuePair.Close()
}

func (q *deviceQP) Abort() error {
	defer q.leavePort()
	return q.QueuePair.Abort()
}

// leavePort gives up the port once the device is done with it.
func (q *deviceQP) leavePort() {
	if !q.leavePortWhenGone() && q.port != nil {
		q.port.Leave(false)
	}
}

// leavePortWhenGone arranges for the port to be given back when the device is done with the queue
// pair, however that ends. It returns false if the device does not say.
func (q *deviceQP) leavePortWhenGone() bool {
	d, ok := transport.As[transport.Leaver](q.QueuePair)
	if ok && q.port != nil {
		d.OnGone(q.port.Leave)
	}
	return ok
}

// forgo returns what has the device give back what it keeps of the connection after its end, or
// nil.
func (q *deviceQP) forgo() func() bool {
	if f, ok := transport.As[transport.Forgoer](q.QueuePair); ok {
		return f.Forgo
	}
	return nil
}

// ignored are the names of fields that are set but that a connection through a device cannot obey.
type ignored []string

func (i *ignored) add(name string, set bool) {
	if set {
		*i = append(*i, name)
	}
}

// keepAlive sets what a device supports of the fields.
func (i *ignored) keepAlive(c *rdmanet.Conn, idle time.Duration, config net.KeepAliveConfig) {
	keepalive.SetDevice(c, idle, config)
	i.add("KeepAliveConfig.Interval", config.Enable && config.Interval > 0)
	i.add("KeepAliveConfig.Count", config.Enable && config.Count > 0)
}

// toDevice sets the fields that are for a connection through a device, and returns the others.
func (d *Dialer) toDevice(c *rdmanet.Conn) []string {
	var i ignored
	i.keepAlive(c, d.KeepAlive, d.KeepAliveConfig)
	i.add("Control", d.Control != nil && d.ControlContext == nil)
	i.add("ControlContext", d.ControlContext != nil)
	i.add("ReadBudget", d.ReadBudget != nil)
	return i
}

func (lc *ListenConfig) toDevice(c *rdmanet.Conn) []string {
	var i ignored
	i.add("Control", lc.Control != nil)
	i.keepAlive(c, lc.KeepAlive, lc.KeepAliveConfig)
	i.add("ReadBudget", lc.ReadBudget != nil)
	return i
}
