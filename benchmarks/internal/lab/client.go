package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// MaxMessage is the largest message of any measurement, in bytes.
const MaxMessage = 1 << 20

// A Client measures over one connection to the peer. One goroutine at a time may use it.
type Client struct {
	path    Path
	address string
	conn    net.Conn
	head    [requestLen]byte
	buf     []byte
}

// Connect dials the peer over p.
func Connect(ctx context.Context, p Path, peer *Peer) (*Client, error) {
	c := &Client{path: p, address: peer.Address(p, "")}
	if err := c.dial(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// grow makes room for a message of size bytes.
func (c *Client) grow(size int) {
	for i := len(c.buf); i < size; i++ {
		c.buf = append(c.buf, byte(i*31))
	}
}

func (c *Client) dial(ctx context.Context) error {
	conn, err := c.path.Dial(ctx, c.address)
	if err != nil {
		return fmt.Errorf("dial over %s: %w", c.path.Name, err)
	}
	c.conn = conn
	return nil
}

// Redial puts a new connection in place of the present one, which is closed also if that fails.
func (c *Client) Redial(ctx context.Context) error {
	c.conn.Close()
	return c.dial(ctx)
}

// Conn returns the connection itself.
func (c *Client) Conn() net.Conn { return c.conn }

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) ask(op byte, size int, count uint64) error {
	if size > MaxMessage {
		return fmt.Errorf("message of %d bytes exceeds %d", size, MaxMessage)
	}
	c.grow(size)
	request{op: op, size: uint32(size), count: count}.put(c.head[:])
	_, err := c.conn.Write(c.head[:])
	return err
}

func (c *Client) answer() (uint64, error) {
	_, err := io.ReadFull(c.conn, c.head[:answerLen])
	return binary.BigEndian.Uint64(c.head[:]), err
}

// StartEcho has the peer send back count messages of size bytes, or every message until the end of
// the stream if count is 0.
func (c *Client) StartEcho(size int, count uint64) error { return c.ask(opEcho, size, count) }

// RoundTrip sends a message of size bytes and waits until it has come back.
func (c *Client) RoundTrip(size int) error {
	if _, err := c.conn.Write(c.buf[:size]); err != nil {
		return err
	}
	_, err := io.ReadFull(c.conn, c.buf[:size])
	return err
}

// PingPong makes count round trips of size bytes and adds the time of each to h.
func (c *Client) PingPong(size int, count uint64, h *Histogram) error {
	if err := c.StartEcho(size, count); err != nil {
		return err
	}
	last := time.Now()
	for range count {
		if err := c.RoundTrip(size); err != nil {
			return err
		}
		now := time.Now()
		h.Add(now.Sub(last))
		last = now
	}
	return nil
}

// StartSend makes the peer take everything until FinishSend.
func (c *Client) StartSend() error { return c.ask(opSink, 0, 0) }

// Send sends one message of size bytes.
func (c *Client) Send(size int) error {
	c.grow(size)
	_, err := c.conn.Write(c.buf[:size])
	return err
}

// FinishSend ends the stream in this direction and returns how many bytes the peer has received.
func (c *Client) FinishSend() (uint64, error) {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok {
		return 0, errors.New("the connection cannot be closed in one direction")
	}
	if err := half.CloseWrite(); err != nil {
		return 0, err
	}
	return c.answer()
}

// OneWay sends count messages of size bytes and returns the time until the peer has received all of
// them.
func (c *Client) OneWay(size int, count uint64) (time.Duration, error) {
	start := time.Now()
	if err := c.ask(opSink, size, count); err != nil {
		return 0, err
	}
	for range count {
		if err := c.Send(size); err != nil {
			return 0, err
		}
	}
	total, err := c.answer()
	if err == nil && total != uint64(size)*count {
		err = fmt.Errorf("peer received %d bytes of %d", total, uint64(size)*count)
	}
	return time.Since(start), err
}

// PeerUsage returns what the peer's process uses. collected says whether it collects its garbage
// first, so that Usage.Memory is what it needs.
func (c *Client) PeerUsage(collected bool) (Usage, error) {
	op := byte(opUsage)
	if collected {
		op = opMemory
	}
	if err := c.ask(op, 0, 0); err != nil {
		return Usage{}, err
	}
	var b [usageLen]byte
	if _, err := io.ReadFull(c.conn, b[:]); err != nil {
		return Usage{}, err
	}
	return parseUsage(b[:]), nil
}

// Open makes a connection over p and has one byte go there and back.
func Open(ctx context.Context, p Path, address string) (net.Conn, error) {
	c, err := p.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	var b [requestLen + 1]byte
	request{op: opEcho, size: 1, count: 1}.put(b[:])
	if _, err = c.Write(b[:]); err == nil {
		_, err = io.ReadFull(c, b[:1])
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// SetUp opens a connection and resets it, so that a long run does not use up the ports in
// TIME_WAIT.
func SetUp(ctx context.Context, p Path, address string) error {
	c, err := Open(ctx, p, address)
	if err != nil {
		return err
	}
	return Reset(c)
}

// Reset closes c in a way that leaves nothing behind in TIME_WAIT.
func Reset(c net.Conn) error {
	if under, ok := c.(interface{ NetConn() net.Conn }); ok { // crypto/tls
		c = under.NetConn()
	}
	if _, ok := c.(*net.UnixConn); ok { // has no TIME_WAIT
		return c.Close()
	}
	l, ok := c.(interface{ SetLinger(sec int) error })
	if !ok {
		return errors.Join(errors.New("the connection cannot be reset"), c.Close())
	}
	return errors.Join(l.SetLinger(0), c.Close())
}
