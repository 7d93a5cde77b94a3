package rdmanet

import (
	"errors"
	"math"
	"net"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// set applies an option unless the connection is closed. wrap decides which ends the error names.
func (c *Conn) set(wrap func(error) error, option func() error) error {
	err := net.ErrClosed
	if !c.isClosed() {
		err = option()
	}
	if err == nil || errors.Is(err, net.ErrClosed) && !c.isClosed() {
		// Where the peer has ended the connection there is nothing left to set. A socket does not mind
		// either.
		return nil
	}
	return wrap(cause("set", err))
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *Conn) peerError(err error) error { return c.opError("set", err) }

// SetNoDelay sets whether small messages are sent at once, which is the default. A transport that
// always does so returns an error that matches errors.ErrUnsupported for false.
func (c *Conn) SetNoDelay(noDelay bool) error {
	return c.set(c.peerError, func() error {
		if t, ok := transport.As[transport.NoDelayer](c.qp); ok {
			return t.SetNoDelay(noDelay)
		}
		if noDelay {
			return nil
		}
		return errors.ErrUnsupported
	})
}

// SetKeepAlive sets whether the transport checks on a silent peer. The error matches
// errors.ErrUnsupported if it cannot.
func (c *Conn) SetKeepAlive(keepalive bool) error {
	c.mu.Lock()
	c.noKeepAlive = !keepalive
	c.mu.Unlock()
	return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: keepalive, Idle: -1, Interval: -1, Count: -1})
}

// SetKeepAlivePeriod sets how long the peer may be silent before the transport checks on it.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	// A socket knows whether that is on, which may have been set below.
	if t, ok := transport.As[interface{ SetKeepAlivePeriod(time.Duration) error }](c.qp); ok {
		return c.set(c.peerError, func() error { return t.SetKeepAlivePeriod(d) })
	}
	c.mu.Lock()
	enable := !c.noKeepAlive
	c.mu.Unlock()
	return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: enable, Idle: d, Interval: -1, Count: -1})
}

// SetKeepAliveConfig configures how the transport checks on a silent peer, as that of net.TCPConn
// does. The error matches errors.ErrUnsupported if it cannot.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.set(c.peerError, func() error {
		t, ok := transport.As[transport.KeepAliver](c.qp)
		if !ok {
			return errors.ErrUnsupported
		}
		c.mu.Lock()
		c.noKeepAlive = !config.Enable
		c.mu.Unlock()
		return t.SetKeepAliveConfig(config)
	})
}

// SetLinger sets what Close does with data not yet sent: sec < 0, the default, has it sent in the
// background; 0 resets the connection; with sec > 0 Close waits for up to that many seconds until
// the peer's host has it, or, with a transport that cannot tell, until it is sent.
func (c *Conn) SetLinger(sec int) error {
	return c.set(c.peerError, func() error {
		c.mu.Lock()
		c.linger = int32(min(max(sec, -1), math.MaxInt32))
		c.mu.Unlock()
		return nil
	})
}

// SetReadBuffer sets the size in bytes of the receive buffer that the transport uses below the
// stream's own ring. The error matches errors.ErrUnsupported if it has none.
func (c *Conn) SetReadBuffer(bytes int) error {
	return c.setBuffer(func(t transport.Bufferer) error { return t.SetReadBuffer(bytes) })
}

// SetWriteBuffer sets the size in bytes of the transport's transmit buffer. The error matches
// errors.ErrUnsupported if it has none.
func (c *Conn) SetWriteBuffer(bytes int) error {
	return c.setBuffer(func(t transport.Bufferer) error { return t.SetWriteBuffer(bytes) })
}

func (c *Conn) setBuffer(option func(transport.Bufferer) error) error {
	return c.set(c.setError, func() error {
		if t, ok := transport.As[transport.Bufferer](c.qp); ok {
			return option(t)
		}
		return errors.ErrUnsupported
	})
}
