package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"time"
)

// A target is the listener that is checked.
type target struct {
	address string
	private []byte // that it accepts
	wait    time.Duration
}

// A testCase checks a rule on a connection of its own. It returns what the peer did in place of
// what it should.
type testCase struct {
	section, name, rule string
	run                 func(p *peer) error
}

func (c *testCase) title() string { return c.section + ": " + c.name }

func (t *target) try(c *testCase) result {
	r := result{Section: c.section, Name: c.name, Rule: c.rule}
	begin := time.Now()
	if err := t.connect(c.run); err != nil {
		r.Broken = err.Error()
	}
	r.Took = time.Since(begin)
	return r
}

func (t *target) connect(f func(p *peer) error) error {
	c, err := net.DialTimeout("tcp", t.address, t.wait)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(t.wait)); err != nil {
		return err
	}
	return f(&peer{TCPConn: c.(*net.TCPConn), private: t.private})
}

// A peer is a connection to the target.
type peer struct {
	*net.TCPConn
	private []byte
}

func (p *peer) send(b []byte) error {
	if _, err := p.Write(b); err != nil {
		return fmt.Errorf("it takes no bytes: %w", err)
	}
	return nil
}

const (
	requestKey = "MPA ID Req Frame"
	replyKey   = "MPA ID Rep Frame"

	flagCRC, flagReject, flagEnhanced = 0x40, 0x20, 0x10
)

// A frame of the set-up (RFC 5044 §7.1.1).
type frame struct {
	flags, revision byte
	private         []byte
}

func request(key string, flags, revision byte, private []byte) []byte {
	b := append([]byte(key), flags, revision)
	b = binary.BigEndian.AppendUint16(b, uint16(len(private)))
	return append(b, private...)
}

// words are the four bytes in front of the private data (RFC 6581 §9).
func words(ird, ord uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, ird), ord)
}

// rsocketData asks for a stream of rsockets: version, flags, credits, and a table and a ring of
// ours.
func rsocketData() []byte {
	b := make([]byte, 40)
	b[0], b[2] = 1, 1
	b[23] = 2
	binary.BigEndian.PutUint32(b[36:], 64<<10)
	return b
}

// reply reads the answer to a request.
func (p *peer) reply() (f frame, err error) {
	head := make([]byte, 20)
	if _, err := io.ReadFull(p, head); err != nil {
		return f, fmt.Errorf("no reply: %w", err)
	}
	if string(head[:16]) != replyKey {
		return f, fmt.Errorf("the reply begins with %q", head[:16])
	}
	f.flags, f.revision = head[16], head[17]
	n := binary.BigEndian.Uint16(head[18:])
	if n > 512 {
		return f, fmt.Errorf("the reply has %d bytes of private data; 512 is the most", n)
	}
	f.private = make([]byte, n)
	_, err = io.ReadFull(p, f.private)
	return f, err
}

// fpdu seals a DDP segment (RFC 5044 §4.1).
func fpdu(segment []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(segment)))
	b = append(b, segment...)
	b = append(b, make([]byte, -len(b)&3)...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A tagged segment (RFC 5041 §4.2).
func tagged(control, op byte, stag uint32, offset uint64, payload ...byte) []byte {
	b := []byte{control, op}
	b = binary.BigEndian.AppendUint32(b, stag)
	b = binary.BigEndian.AppendUint64(b, offset)
	return append(b, payload...)
}

// An untagged segment (RFC 5041 §4.3).
func untagged(control, op byte, queue, msn, offset uint32, payload ...byte) []byte {
	b := []byte{control, op, 0, 0, 0, 0}
	for _, v := range []uint32{queue, msn, offset} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return append(b, payload...)
}

// segment reads an FPDU and returns its segment, or an error that says what is wrong with it.
func (p *peer) segment() ([]byte, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(p, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head))
	b := append(head, make([]byte, (n+2+3)&^3-2+4)...)
	if _, err := io.ReadFull(p, b[2:]); err != nil {
		return nil, fmt.Errorf("an FPDU is cut: %w", err)
	}
	body := b[:len(b)-4]
	if got := binary.LittleEndian.Uint32(b[len(body):]); got != crc32.Checksum(body, castagnoli) {
		return nil, fmt.Errorf("the CRC of an FPDU is wrong: %x", b)
	}
	if n < 14 || body[2]&3 != 1 || body[3]>>6 != 1 {
		return nil, fmt.Errorf("an FPDU is malformed: %x", b)
	}
	return body[2 : 2+n], nil
}

// A cause is what a Terminate says.
type cause struct{ layer, typ, code byte }

func (c cause) String() string { return fmt.Sprintf("%d/%d/%#02x", c.layer, c.typ, c.code) }

// terminated reads up to a Terminate, which must have one of the causes, and the end of the stream
// (RFC 5040 §4.8, §5.4).
func (p *peer) terminated(want ...cause) error {
	for {
		s, err := p.segment()
		if err != nil {
			return fmt.Errorf("no Terminate: %w", err)
		}
		if s[0]&0x80 != 0 || s[1]&15 != 7 {
			continue
		}
		if len(s) < 18+4 || s[0]&0x40 == 0 || binary.BigEndian.Uint32(s[6:]) != 2 || binary.BigEndian.Uint32(s[10:]) != 1 {
			return fmt.Errorf("the Terminate is not one message of queue 2, with MSN 1: %x", s)
		}
		got := cause{s[18] >> 4, s[18] & 15, s[19]}
		ok := false
		for _, w := range want {
			ok = ok || got == w
		}
		if !ok {
			return fmt.Errorf("a Terminate of %v, not of %v: %x", got, want, s)
		}
		return p.over()
	}
}

// over waits for the end of the stream, before which nothing may come.
func (p *peer) over() error {
	n, err := p.Read(make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("bytes after the last")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("the connection is left open")
	}
	return nil
}
