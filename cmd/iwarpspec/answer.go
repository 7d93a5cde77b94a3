package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// asked reads the request of the initiator that is checked.
func (p *peer) asked() (frame, error) { return p.frame(requestKey) }

// acceptance is a reply to f that accepts, in its form, and chooses a frame to begin with.
func (p *peer) acceptance(f *frame) []byte {
	private, flags := p.private, f.flags&flagEnhanced|flagCRC
	if ird, ord, ok := f.depths(); ok {
		choice := uint16(0)
		switch {
		case ird&0x8000 == 0:
		case ord&0x8000 != 0:
			choice = 0x8000
		default:
			choice = ord & 0x4000
		}
		private = append(words(ird&0x8000|16, choice|min(ird&noDepth, 16)), private...)
	}
	return startup(replyKey, flags, f.revision, private)
}

// answered goes through the set-up and takes the initiator's first FPDU, before which a responder
// sends none (RFC 5044 §7.1.2).
func (p *peer) answered() error {
	f, err := p.asked()
	if err != nil {
		return err
	}
	if f.flags&flagMarkers != 0 {
		return notApplicable("it asks for markers, which this program does not send")
	}
	if err := p.send(p.acceptance(&f)); err != nil {
		return err
	}
	if _, err := p.segment(); err != nil {
		return fmt.Errorf("no first FPDU: %w", err)
	}
	return nil
}

// dropped expects the end of the connection, before which there is no FPDU but a Terminate.
func (p *peer) dropped(b []byte) error {
	if err := p.send(b); err != nil {
		return nil
	}
	s, err := p.segment()
	switch {
	case err == nil && s[0]&0x80 == 0 && s[1]&15 == opTerminate&15:
	case err == nil:
		return fmt.Errorf("the reply is accepted; an FPDU comes: %x", s)
	}
	return p.over()
}

// ask is a case about the request.
func ask(section, name, rule string, check func(f frame) error) testCase {
	return testCase{section, name, rule, func(p *peer) error {
		f, err := p.asked()
		if err != nil {
			return err
		}
		return check(f)
	}}
}

// drop is the case of a reply that must not be accepted. The reply that is changed is a good one.
func drop(section, name, rule string, change func(f frame, b []byte) []byte) testCase {
	return testCase{section, name, rule, func(p *peer) error {
		f, err := p.asked()
		if err != nil {
			return err
		}
		b := change(f, p.acceptance(&f))
		if b == nil {
			return notApplicable("its request is not of revision 2")
		}
		return p.dropped(b)
	}}
}

// answerCases are of RFC 5044 §7.1 and RFC 6581, and of what a responder may send then.
func answerCases() []testCase {
	const format, rules = "RFC 5044 §7.1.1", "RFC 5044 §7.1.2"
	const v2, reads, model = "RFC 6581 §6", "RFC 6581 §9.1", "RFC 6581 §9.2"
	set := func(at int, to byte) func(f frame, b []byte) []byte {
		return func(_ frame, b []byte) []byte { b[at] = to; return b }
	}
	sized := func(n int) func(f frame, b []byte) []byte {
		return func(_ frame, b []byte) []byte {
			b = append(b[:20], make([]byte, n)...)
			binary.BigEndian.PutUint16(b[18:], uint16(n))
			return b
		}
	}
	cases := []testCase{
		ask(format, "request", "has the key and no more private data than there may be", func(frame) error { return nil }),
		ask(format, "reserved flags of the request", "are zero", without(0x0f)),
		ask(format, "rejection in the request", "is zero", without(flagReject)),
		ask(v2, "revision of the request", "is 1, or 2 with the enhanced words", func(f frame) error {
			if f.revision != 1 && f.revision != 2 || f.revision == 1 && f.flags&flagEnhanced != 0 {
				return fmt.Errorf("revision %d, flags %#02x", f.revision, f.flags)
			}
			return nil
		}),
		ask("RFC 5044 §4.4", "crc of the request", "is asked for, as by default", func(f frame) error {
			if f.flags&flagCRC == 0 {
				return notApplicable("it was told not to ask for CRC, or does not by default")
			}
			return nil
		}),
		ask(model, "model of the request", "with A there are one or more of B, C and D, without it none", func(f frame) error {
			ird, ord, ok := f.depths()
			if !ok {
				return notApplicable("its request is not of revision 2")
			}
			if choice := ird&0x4000 != 0 || ord&0xc000 != 0; choice != (ird&0x8000 != 0) {
				return fmt.Errorf("words %#04x %#04x", ird, ord)
			}
			return nil
		}),
		{rules, "initiator is silent until the reply", "sends no FPDU before", func(p *peer) error {
			if _, err := p.asked(); err != nil {
				return err
			}
			return p.silent("the reply")
		}},
		drop(rules, "key of a request in the reply", "is no reply: both ends are initiators", func(_ frame, b []byte) []byte {
			copy(b, requestKey)
			return b
		}),
		drop(format, "key of nothing in the reply", "is no reply", set(0, 'm')),
		drop(format, "revision 255 in the reply", "cannot be interoperated with", set(17, 255)),
		drop(format, "513 bytes of private data in the reply", "are too many", sized(513)),
		drop(format, "65535 bytes of private data in the reply", "are too many", sized(65535)),
		drop(rules, "rejection", "is no connection", func(f frame, b []byte) []byte { b[16] |= flagReject; return b }),
		{rules, "cut reply", "is no connection", func(p *peer) error {
			f, err := p.asked()
			if err != nil {
				return err
			}
			b := p.acceptance(&f)
			if err := p.send(b[:19]); err != nil {
				return nil
			}
			if err := p.CloseWrite(); err != nil {
				return err
			}
			return p.over()
		}},
		drop(v2, "enhanced words cut in the reply", "are not what private data begins with", func(f frame, b []byte) []byte {
			if f.flags&flagEnhanced == 0 {
				return nil
			}
			return append(b[:18], 0, 3, 0x80, 1, 0)
		}),
		{"RFC 5044 §4.3", "markers asked for by the reply", "are sent, or the connection ends", func(p *peer) error {
			f, err := p.asked()
			if err != nil {
				return err
			}
			b := p.acceptance(&f)
			b[16] |= flagMarkers
			if err := p.send(b); err != nil {
				return nil
			}
			first := make([]byte, 4)
			if _, err := io.ReadFull(p, first); err != nil {
				return p.over()
			}
			if binary.BigEndian.Uint32(first) == 0 {
				return nil // a marker is in front of the first FPDU
			}
			n := (int(binary.BigEndian.Uint16(first))+2+3)&^3 + 4
			rest := make([]byte, n-4)
			if _, err := io.ReadFull(p, rest); err != nil {
				return fmt.Errorf("bytes without a marker: %x", first)
			}
			if s := append(first, rest...); s[2]&0x80 != 0 || s[3]&15 != opTerminate&15 {
				return fmt.Errorf("an FPDU without a marker: %x", s)
			}
			return p.over()
		}},
		{reads, "ord of 16382 in the reply", "is served, or refused with a Terminate that says so", func(p *peer) error {
			return p.reword(func(ird, ord uint16) (uint16, uint16) { return ird, ord&0xc000 | 0x3ffe }, func(p *peer) error {
				s, err := p.segment()
				if err != nil {
					return fmt.Errorf("neither an FPDU nor a Terminate: %w", err)
				}
				if s[0]&0x80 != 0 || s[1]&15 != opTerminate&15 {
					return nil
				}
				if err := p.wellFormed(s); err != nil {
					return fmt.Errorf("%w: %x", err, s)
				}
				if got := (cause{s[18] >> 4, s[18] & 15, s[19]}); got != mpaIRD {
					return fmt.Errorf("a Terminate of %v, not of %v", got, mpaIRD)
				}
				return p.over()
			})
		}},
		{reads, "depths that are not negotiated in the reply", "are accepted", func(p *peer) error {
			return p.reword(func(ird, ord uint16) (uint16, uint16) { return ird | noDepth, ord | noDepth }, firstFPDU)
		}},
		{model, "no frame that the initiator has", "is refused with a Terminate that says so", func(p *peer) error {
			f, err := p.asked()
			if err != nil {
				return err
			}
			ird, ord, ok := f.depths()
			if !ok || ird&0x8000 == 0 {
				return notApplicable("its request is not for the peer-to-peer model")
			}
			var choice [2]uint16 // what it has not offered
			switch {
			case ird&0x4000 == 0:
				choice[0] = 0x4000
			case ord&0x8000 == 0:
				choice[1] = 0x8000
			case ord&0x4000 == 0:
				choice[1] = 0x4000
			default:
				return notApplicable("it has them all")
			}
			if err := p.send(startup(replyKey, f.flags&flagEnhanced|flagCRC, f.revision, append(words(0x8010|choice[0], 1|choice[1]), p.private...))); err != nil {
				return err
			}
			return p.terminated(mpaRTR)
		}},
		{model, "write to begin with", "is the first FPDU", func(p *peer) error {
			return p.began(0x8000, func(s []byte) error {
				if len(s) != 14 || s[0]&0xc3 != lastTagged || s[1]&15 != opWrite&15 {
					return fmt.Errorf("it begins with %x", s)
				}
				return nil
			})
		}},
		{model, "read to begin with", "is the first FPDU", func(p *peer) error {
			return p.began(0x4000, func(s []byte) error {
				if len(s) != 46 || s[0]&0xc3 != lastUntagged || s[1]&15 != opReadRequest&15 || binary.BigEndian.Uint32(s[6:]) != 1 || binary.BigEndian.Uint32(s[10:]) != 1 || binary.BigEndian.Uint32(s[30:]) != 0 {
					return fmt.Errorf("it begins with %x", s)
				}
				return nil
			})
		}},
		{"RFC 5040 §5.2.1", "read of nothing", "is answered, whatever its STag", func(p *peer) error {
			if err := p.answered(); err != nil {
				return err
			}
			b := read(0, noSTag)
			copy(b, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
			if err := p.send(fpdu(untagged(lastUntagged|0x3c, opReadRequest|0x30, 1, 1, 0, b...))); err != nil {
				return err
			}
			return p.answeredRead(0x01020304, 0x05060708090a0b0c)
		}},
		{"RFC 5040 §5.4", "terminate", "ends the connection, and has no answer", func(p *peer) error {
			if err := p.answered(); err != nil {
				return err
			}
			if err := p.send(fpdu(untagged(lastUntagged, opTerminate, 2, 1, 0, 0, 0, 0, 0))); err != nil {
				return err
			}
			return p.unanswered()
		}},
		ask("rsockets", "private data of the request", "has version 1, and a ring", func(frame) error { return nil }),
	}
	cases[len(cases)-1].run = func(p *peer) error {
		if !p.rsocket {
			return notApplicable("not a stream")
		}
		f, err := p.asked()
		if err != nil {
			return err
		}
		if _, _, ok := f.depths(); ok {
			f.private = f.private[4:]
		}
		return streamData(f.private)
	}
	return cases
}

// reword replies with other words, and checks what comes.
func (p *peer) reword(change func(ird, ord uint16) (uint16, uint16), check func(p *peer) error) error {
	f, err := p.asked()
	if err != nil {
		return err
	}
	b := p.acceptance(&f)
	if f.flags&flagEnhanced == 0 {
		return notApplicable("its request is not of revision 2")
	}
	ird, ord := change(binary.BigEndian.Uint16(b[20:]), binary.BigEndian.Uint16(b[22:]))
	copy(b[20:], words(ird, ord))
	if err := p.send(b); err != nil {
		return err
	}
	return check(p)
}

func firstFPDU(p *peer) error {
	s, err := p.segment()
	switch {
	case err != nil:
		return fmt.Errorf("no FPDU: %w", err)
	case s[0]&0x80 == 0 && s[1]&15 == opTerminate&15:
		return fmt.Errorf("a Terminate: %x", s)
	}
	return nil
}

// began has the initiator begin with what choice, of the second word, says.
func (p *peer) began(choice uint16, check func(s []byte) error) error {
	f, err := p.asked()
	if err != nil {
		return err
	}
	if ird, ord, ok := f.depths(); !ok || ird&0x8000 == 0 || ord&choice == 0 {
		return notApplicable("it has not offered that")
	}
	if err := p.send(startup(replyKey, f.flags&flagEnhanced|flagCRC, f.revision, append(words(0x8010, 1|choice), p.private...))); err != nil {
		return err
	}
	s, err := p.segment()
	if err != nil {
		return fmt.Errorf("no FPDU: %w", err)
	}
	return check(s)
}

// unanswered reads up to the end of the stream, before which there is no Terminate.
func (p *peer) unanswered() error {
	for {
		s, err := p.segment()
		switch {
		case err == nil && s[0]&0x80 == 0 && s[1]&15 == opTerminate&15:
			return fmt.Errorf("a Terminate: %x", s)
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			return nil
		}
		return p.over()
	}
}
