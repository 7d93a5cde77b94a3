package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// A testCase checks a rule on a connection of its own. It returns what the peer did in place of
// what it should, or a notApplicable.
type testCase struct {
	section, name, rule string
	run                 func(p *peer) error
}

func (c *testCase) title() string { return c.section + ": " + c.name }

// notApplicable is why a rule does not concern a peer, as that of a frame which it did not offer.
type notApplicable string

func (n notApplicable) Error() string { return string(n) }

// A source makes the connections to what is checked.
type source struct {
	connect func(deadline time.Time) (c *net.TCPConn, done func(), err error)
	close   func()
	private []byte // that the peer accepts
	rsocket bool   // whether that is of a stream
	wait    time.Duration
	pause   time.Duration // once a connection is accepted
}

func (s *source) try(c *testCase) result {
	r := result{Section: c.section, Name: c.name, Rule: c.rule}
	begin := time.Now()
	switch err := s.on(c.run).(type) {
	case nil:
	case notApplicable:
		r.Skipped = err.Error()
	default:
		r.Broken = err.Error()
	}
	r.Took = time.Since(begin)
	return r
}

func (s *source) on(run func(p *peer) error) error {
	c, done, err := s.connect(time.Now().Add(s.wait))
	if err != nil {
		return err
	}
	defer done()
	defer c.Close()
	end := time.Now().Add(s.wait)
	if err := c.SetDeadline(end); err != nil {
		return err
	}
	return run(&peer{TCPConn: c, end: end, private: s.private, rsocket: s.rsocket, pause: s.pause})
}

// A peer is a connection to what is checked.
type peer struct {
	*net.TCPConn
	end     time.Time // of all calls
	private []byte
	rsocket bool
	pause   time.Duration
	sent    []byte // all of it

	unchecked bool // the CRC of what comes
}

func (p *peer) send(b []byte) error {
	p.sent = append(p.sent, b...)
	if _, err := p.Write(b); err != nil {
		return fmt.Errorf("it takes no bytes: %w", err)
	}
	return nil
}

const (
	requestKey = "MPA ID Req Frame"
	replyKey   = "MPA ID Rep Frame"

	flagMarkers, flagCRC, flagReject, flagEnhanced = 0x80, 0x40, 0x20, 0x10
)

// A frame of the set-up (RFC 5044 §7.1.1).
type frame struct {
	flags, revision byte
	private         []byte
}

// depths are the two words of RFC 6581 §9, if the frame has them.
func (f *frame) depths() (ird, ord uint16, ok bool) {
	if f.flags&flagEnhanced == 0 || len(f.private) < 4 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(f.private), binary.BigEndian.Uint16(f.private[2:]), true
}

// startup is a frame of the set-up, of whatever is right or wrong.
func startup(key string, flags, revision byte, private []byte) []byte {
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

// frame reads one of the set-up.
func (p *peer) frame(key string) (f frame, err error) {
	head := make([]byte, 20)
	if _, err := io.ReadFull(p, head); err != nil {
		return f, fmt.Errorf("no frame of the set-up: %w", err)
	}
	if string(head[:16]) != key {
		return f, fmt.Errorf("the frame begins with %q", head[:16])
	}
	f.flags, f.revision = head[16], head[17]
	n := binary.BigEndian.Uint16(head[18:])
	if n > 512 {
		return f, fmt.Errorf("the frame has %d bytes of private data; 512 is the most", n)
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
	if got := binary.LittleEndian.Uint32(b[len(body):]); !p.unchecked && got != crc32.Checksum(body, castagnoli) {
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
// (RFC 5040 §4.8, §5.4). Where no cause is given the standards leave it open.
func (p *peer) terminated(want ...cause) error {
	for {
		s, err := p.segment()
		if err != nil {
			return fmt.Errorf("no Terminate: %w", err)
		}
		if s[0]&0x80 != 0 || s[1]&15 != opTerminate&15 {
			continue
		}
		if err := p.wellFormed(s); err != nil {
			return fmt.Errorf("%w: %x", err, s)
		}
		got := cause{s[18] >> 4, s[18] & 15, s[19]}
		if len(want) > 0 && !slices.Contains(want, got) {
			return fmt.Errorf("a Terminate of %v, not of %v: %x", got, want, s)
		}
		return p.over()
	}
}

// wellFormed checks a Terminate but for its cause (RFC 5040 §4.8, figures 7, 8 and 10).
func (p *peer) wellFormed(s []byte) error {
	if len(s) < 18+4 || s[0]&0x40 == 0 || binary.BigEndian.Uint32(s[6:]) != 2 || binary.BigEndian.Uint32(s[10:]) != 1 || binary.BigEndian.Uint32(s[14:]) != 0 {
		return errors.New("the Terminate is not one message of queue 2, with MSN 1")
	}
	if s[20]&0x1f != 0 || s[21] != 0 {
		return errors.New("reserved bits of the Terminate are set")
	}
	if s[20]&0x40 == 0 {
		return nil
	}
	if len(s) < 26 {
		return errors.New("the Terminate is without the header that it announces")
	}
	n := 18
	if s[24]&0x80 != 0 {
		n = 14
	}
	if len(s) < 24+n || !bytes.Contains(p.sent, s[22:24+n]) {
		return errors.New("the header in the Terminate is of nothing that was sent")
	}
	return nil
}

// over waits for the end of the stream, before which nothing may come.
func (p *peer) over() error {
	n, err := p.Read(make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("bytes in place of the end of the stream")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("the connection is left open")
	}
	return nil
}

// quiet is how long nothing is waited for. What comes later is not noticed; what comes in time is.
// It is a variable for tests.
var quiet = 30 * time.Millisecond

// silent expects nothing yet.
func (p *peer) silent(until string) error {
	if err := p.SetReadDeadline(time.Now().Add(quiet)); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, err := p.Read(b)
	if n > 0 {
		return fmt.Errorf("it sends before it has %s: %x", until, b[:n])
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("it ends the connection: %w", err)
	}
	return p.SetReadDeadline(p.end)
}

// answeredRead expects the answer to an RDMA Read of nothing whose sink is given.
func (p *peer) answeredRead(stag uint32, offset uint64) error {
	for {
		s, err := p.segment()
		if err != nil {
			return fmt.Errorf("no Read Response: %w", err)
		}
		if s[0]&0x80 == 0 || s[1]&15 != opReadResponse&15 {
			if s[0]&0x80 == 0 && s[1]&15 == opTerminate&15 {
				return fmt.Errorf("a Terminate: %x", s)
			}
			continue
		}
		if len(s) != 14 || s[0]&0x40 == 0 || binary.BigEndian.Uint32(s[2:]) != stag || binary.BigEndian.Uint64(s[6:]) != offset {
			return fmt.Errorf("the Read Response is not the whole of nothing to %#x, %#x: %x", stag, offset, s)
		}
		return nil
	}
}
