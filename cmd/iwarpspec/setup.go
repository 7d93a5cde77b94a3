package main

import (
	"errors"
	"fmt"
)

// established goes through the set-up in the revision, with CRC.
func (p *peer) established(revision byte) error {
	flags, private := byte(flagCRC), p.private
	if revision == 2 {
		flags |= flagEnhanced
		private = append(words(0x8010, 0xc010), private...)
	}
	if err := p.send(request(requestKey, flags, revision, private)); err != nil {
		return err
	}
	f, err := p.reply()
	switch {
	case err != nil:
		return err
	case f.flags&flagReject != 0:
		return errors.New("the request is rejected; other private data may be needed (-private)")
	}
	return nil
}

// refused expects the end of the connection, after a rejection or nothing.
func (p *peer) refused(b []byte) error {
	if err := p.send(b); err != nil {
		return nil
	}
	f, err := p.reply()
	if err != nil {
		return p.over()
	}
	if f.flags&flagReject == 0 {
		return fmt.Errorf("the request is accepted, with flags %#02x, revision %d", f.flags, f.revision)
	}
	return p.over()
}

// setupCases are of RFC 5044 §7.1 and RFC 6581.
func setupCases() []testCase {
	refuse := func(section, name, rule string, b func(p *peer) []byte) testCase {
		return testCase{section, name, rule, func(p *peer) error { return p.refused(b(p)) }}
	}
	reply := func(section, name, rule string, b func(p *peer) []byte, check func(f frame) error) testCase {
		return testCase{section, name, rule, func(p *peer) error {
			if err := p.send(b(p)); err != nil {
				return err
			}
			f, err := p.reply()
			if err != nil {
				return err
			}
			return check(f)
		}}
	}
	plain := func(flags byte) func(p *peer) []byte {
		return func(p *peer) []byte { return request(requestKey, flags, 1, p.private) }
	}
	enhanced := func(ird, ord uint16) func(p *peer) []byte {
		return func(p *peer) []byte {
			return request(requestKey, flagCRC|flagEnhanced, 2, append(words(ird, ord), p.private...))
		}
	}
	accepted := func(f frame) error {
		if f.flags&flagReject != 0 {
			return errors.New("rejected")
		}
		return nil
	}
	with := func(more func(f frame) error) func(f frame) error {
		return func(f frame) error {
			if err := accepted(f); err != nil {
				return err
			}
			return more(f)
		}
	}
	depths := func(check func(ird, ord uint16) bool, text string) func(f frame) error {
		return with(func(f frame) error {
			if f.flags&flagEnhanced == 0 || len(f.private) < 4 {
				return fmt.Errorf("flags %#02x and %d bytes of private data, without the words", f.flags, len(f.private))
			}
			ird := uint16(f.private[0])<<8 | uint16(f.private[1])
			ord := uint16(f.private[2])<<8 | uint16(f.private[3])
			if !check(ird, ord) {
				return fmt.Errorf("words %#04x %#04x: %s", ird, ord, text)
			}
			return nil
		})
	}
	const mpa, v2 = "RFC 5044 §7.1", "RFC 6581 §9"
	cases := []testCase{
		reply(mpa, "request of revision 1", "is answered in revision 1", plain(flagCRC), with(func(f frame) error {
			if f.revision != 1 {
				return fmt.Errorf("revision %d", f.revision)
			}
			return nil
		})),
		reply(mpa, "crc asked for", "is used: the reply has C", plain(flagCRC), with(func(f frame) error {
			if f.flags&flagCRC == 0 {
				return fmt.Errorf("flags %#02x", f.flags)
			}
			return nil
		})),
		reply(mpa, "reserved flags", "are ignored, and zero in the reply", plain(flagCRC|0x0f), with(func(f frame) error {
			if f.flags&0x0f != 0 {
				return fmt.Errorf("flags %#02x", f.flags)
			}
			return nil
		})),
		reply(mpa, "no enhanced words in revision 1", "the reply has no S", plain(flagCRC), with(func(f frame) error {
			if f.flags&flagEnhanced != 0 {
				return fmt.Errorf("flags %#02x", f.flags)
			}
			return nil
		})),
		refuse(mpa, "key of a reply", "is no request", func(p *peer) []byte { return request(replyKey, flagCRC, 1, p.private) }),
		refuse(mpa, "revision 0", "is not accepted", func(p *peer) []byte { return request(requestKey, flagCRC, 0, p.private) }),
		refuse(mpa, "revision 255", "is not accepted", func(p *peer) []byte { return request(requestKey, flagCRC, 255, p.private) }),
		refuse(mpa, "513 bytes of private data", "are too many", func(p *peer) []byte { return request(requestKey, flagCRC, 1, make([]byte, 513)) }),
		refuse(mpa, "65535 bytes of private data", "are too many", func(p *peer) []byte { return request(requestKey, flagCRC, 1, make([]byte, 65535)) }),
		refuse("RFC 5044 §7.1.2", "fpdu before the reply", "ends the connection", func(p *peer) []byte {
			return append(request(requestKey, flagCRC, 1, p.private), fpdu(tagged(0xc1, 0x40, 1, 0))...)
		}),
		refuse(v2, "enhanced words cut", "end the connection", func(p *peer) []byte { return request(requestKey, flagCRC|flagEnhanced, 2, []byte{0x80, 1, 0}) }),
		reply(v2, "revision 2 without words", "is answered without them", func(p *peer) []byte { return request(requestKey, flagCRC, 2, p.private) }, with(func(f frame) error {
			if f.flags&flagEnhanced != 0 {
				return fmt.Errorf("flags %#02x", f.flags)
			}
			return nil
		})),
		reply(v2, "revision 2", "is answered in revision 2", enhanced(0x8010, 0xc010), with(func(f frame) error {
			if f.revision != 2 {
				return fmt.Errorf("revision %d", f.revision)
			}
			return nil
		})),
		reply(v2, "client-server", "without A in the request there is none in the reply", enhanced(16, 16),
			depths(func(ird, ord uint16) bool { return ird&0x8000 == 0 }, "A")),
	}
	for _, n := range []uint16{0, 1, 2, 16, 100, 1000, 0x3fff} {
		cases = append(cases, reply(v2, fmt.Sprintf("ird of %d", n), "the responder's ORD is no larger", enhanced(n, 16),
			depths(func(ird, ord uint16) bool { return n == 0x3fff || ord&0x3fff <= n || ord&0x3fff == 0x3fff }, "ORD")))
	}
	for _, rtr := range []struct {
		name     string
		ird, ord uint16 // bits
	}{{"write", 0x8000, 0x8000}, {"read", 0x8000, 0x4000}, {"write or read", 0x8000, 0xc000}, {"any", 0xc000, 0xc000}} {
		cases = append(cases, reply(v2, "rtr by "+rtr.name, "the reply chooses what was offered", enhanced(rtr.ird|16, rtr.ord|16),
			depths(func(ird, ord uint16) bool {
				chosen := ird&0x4000 != 0 || ord&0xc000 != 0
				return chosen && ird&0x4000&^rtr.ird == 0 && ord&0xc000&^rtr.ord == 0
			}, "the choice")))
	}
	return cases
}
