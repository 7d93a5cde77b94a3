package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// established goes through the set-up in the revision, with CRC.
func (p *peer) established(revision byte) error {
	_, err := p.set(revision, flagCRC)
	return err
}

func (p *peer) set(revision, flags byte) (frame, error) {
	private := p.private
	if revision == 2 {
		flags |= flagEnhanced
		private = append(words(0x8010, 0xc010), private...)
	}
	if err := p.send(startup(requestKey, flags, revision, private)); err != nil {
		return frame{}, err
	}
	f, err := p.frame(replyKey)
	if err == nil && f.flags&flagReject != 0 {
		err = errors.New("the request is rejected; other private data may be needed (-private)")
	}
	time.Sleep(p.pause)
	return f, err
}

// refused expects the end of the connection, after a rejection or nothing.
func (p *peer) refused(b []byte) error {
	if err := p.send(b); err != nil {
		return nil
	}
	f, err := p.frame(replyKey)
	if err != nil {
		return p.over()
	}
	if f.flags&flagReject == 0 {
		return fmt.Errorf("the request is accepted, with flags %#02x, revision %d", f.flags, f.revision)
	}
	return p.over()
}

// refuse is the case of a request that must not be accepted.
func refuse(section, name, rule string, b func(p *peer) []byte) testCase {
	return testCase{section, name, rule, func(p *peer) error { return p.refused(b(p)) }}
}

// accept is the case of a request that is accepted, with a reply that must be so.
func accept(section, name, rule string, b func(p *peer) []byte, check func(f frame) error) testCase {
	return testCase{section, name, rule, func(p *peer) error {
		if err := p.send(b(p)); err != nil {
			return err
		}
		f, err := p.frame(replyKey)
		switch {
		case err != nil:
			return err
		case f.flags&flagReject != 0:
			return errors.New("rejected")
		}
		return check(f)
	}}
}

func plain(flags byte) func(p *peer) []byte {
	return func(p *peer) []byte { return startup(requestKey, flags, 1, p.private) }
}

func enhanced(ird, ord uint16) func(p *peer) []byte {
	return func(p *peer) []byte {
		return startup(requestKey, flagCRC|flagEnhanced, 2, append(words(ird, ord), p.private...))
	}
}

// depths checks the words of a reply.
func depths(check func(ird, ord uint16) bool, text string) func(f frame) error {
	return func(f frame) error {
		ird, ord, ok := f.depths()
		if !ok {
			return fmt.Errorf("flags %#02x and %d bytes of private data, without the words", f.flags, len(f.private))
		}
		if !check(ird, ord) {
			return fmt.Errorf("words %#04x %#04x: %s", ird, ord, text)
		}
		return nil
	}
}

// without checks that flags are not set in a reply.
func without(flags byte) func(f frame) error {
	return func(f frame) error {
		if f.flags&flags != 0 {
			return fmt.Errorf("flags %#02x", f.flags)
		}
		return nil
	}
}

func inRevision(n byte) func(f frame) error {
	return func(f frame) error {
		if f.revision != n {
			return fmt.Errorf("revision %d", f.revision)
		}
		return nil
	}
}

// noDepth says that a depth is not negotiated (RFC 6581 §9.1).
const noDepth = 0x3fff

// setupCases are of RFC 5044 §7.1 and RFC 6581, and of what an initiator may send then.
func setupCases() []testCase {
	const format, rules = "RFC 5044 §7.1.1", "RFC 5044 §7.1.2"
	const v2, both, reads, model = "RFC 6581 §6", "RFC 6581 §10", "RFC 6581 §9.1", "RFC 6581 §9.2"
	cases := []testCase{
		accept(format, "request of revision 1", "is answered in revision 1", plain(flagCRC), inRevision(1)),
		accept(format, "reserved flags", "are ignored, and zero in the reply", plain(flagCRC|0x0f), without(0x0f)),
		accept(format, "rejection in a request", "is ignored", plain(flagCRC|flagReject), without(0)),
		accept(both, "enhancement in revision 1", "is a reserved flag, and zero in the reply", plain(flagCRC|flagEnhanced), without(flagEnhanced)),
		accept(both, "no enhanced words in revision 1", "the reply has no S", plain(flagCRC), without(flagEnhanced)),
		refuse(rules, "key of a reply", "is no request", func(p *peer) []byte { return startup(replyKey, flagCRC, 1, p.private) }),
		refuse(format, "revision 255", "cannot be interoperated with", func(p *peer) []byte { return startup(requestKey, flagCRC, 255, p.private) }),
		refuse(format, "513 bytes of private data", "are too many", func(p *peer) []byte { return startup(requestKey, flagCRC, 1, make([]byte, 513)) }),
		refuse(format, "65535 bytes of private data", "are too many", func(p *peer) []byte { return startup(requestKey, flagCRC, 1, make([]byte, 65535)) }),
		refuse(v2, "enhanced words cut", "are not what private data begins with", func(p *peer) []byte {
			return startup(requestKey, flagCRC|flagEnhanced, 2, []byte{0x80, 1, 0})
		}),
		refuse(v2, "enhanced words missing", "are not what private data begins with", func(p *peer) []byte {
			return startup(requestKey, flagCRC|flagEnhanced, 2, nil)
		}),
		accept(both, "revision 2 without words", "is answered without them", func(p *peer) []byte { return startup(requestKey, flagCRC, 2, p.private) }, without(flagEnhanced)),
		accept(both, "revision 2", "is answered in revision 2", enhanced(0x8010, 0xc010), inRevision(2)),
		accept(model, "client-server", "without A in the request there are none of A to D in the reply", enhanced(16, 16),
			depths(func(ird, ord uint16) bool { return ird&0xc000 == 0 && ord&0xc000 == 0 }, "flags of the model")),
		accept(model, "flags without a model", "without A, B to D are ignored", enhanced(16|0x4000, 16|0xc000),
			depths(func(ird, ord uint16) bool { return ird&0xc000 == 0 && ord&0xc000 == 0 }, "flags of the model")),
		accept(reads, "ird that is not negotiated", "has the same in the reply's ord", enhanced(noDepth, 16),
			depths(func(ird, ord uint16) bool { return ord&noDepth == noDepth }, "ORD")),
		accept(reads, "ord that is not negotiated", "has the same in the reply's ird", enhanced(16, noDepth),
			depths(func(ird, ord uint16) bool { return ird&noDepth == noDepth }, "IRD")),
		{rules, "cut request", "is not answered", func(p *peer) error {
			b := plain(flagCRC)(p)
			if err := p.send(b[:len(b)-1]); err != nil {
				return err
			}
			if len(p.private) == 0 {
				return notApplicable("the request has no private data")
			}
			if err := p.CloseWrite(); err != nil {
				return err
			}
			return p.over()
		}},
		{"RFC 5044 §4.3", "markers asked for", "are sent, or the request is refused", markers},
		{format, "no crc asked for", "is none checked unless the reply asks for it", func(p *peer) error {
			f, err := p.set(1, 0)
			if err != nil {
				return err
			}
			b := fpdu(untagged(lastUntagged, opReadRequest, 1, 1, 0, read(0, 0)...))
			b[len(b)-1] ^= 1
			if err := p.send(b); err != nil {
				return err
			}
			if f.flags&flagCRC != 0 {
				return p.terminated(mpaCRC)
			}
			p.unchecked = true
			return p.answeredRead(0, 0)
		}},
	}
	for _, revision := range []byte{1, 2} {
		cases = append(cases,
			testCase{rules, fmt.Sprintf("responder is silent until the first FPDU, revision %d", revision), "sends none before", func(p *peer) error {
				if err := p.established(revision); err != nil {
					return err
				}
				return p.silent("an FPDU")
			}},
			testCase{"RFC 5040 §5.2.1", fmt.Sprintf("read of nothing, revision %d", revision), "is answered, whatever its STag", func(p *peer) error {
				if err := p.established(revision); err != nil {
					return err
				}
				b := read(0, noSTag)
				copy(b, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
				if err := p.send(fpdu(untagged(lastUntagged, opReadRequest, 1, 1, 0, b...))); err != nil {
					return err
				}
				return p.answeredRead(0x01020304, 0x05060708090a0b0c)
			}},
			testCase{"RFC 5041 §5.2", fmt.Sprintf("write of nothing, revision %d", revision), "has no STag that is checked", func(p *peer) error {
				if err := p.established(revision); err != nil {
					return err
				}
				b := slices.Concat(fpdu(tagged(lastTagged, opWrite, noSTag, 1<<63)), fpdu(untagged(lastUntagged, opReadRequest, 1, 1, 0, read(0, 0)...)))
				if err := p.send(b); err != nil {
					return err
				}
				return p.answeredRead(0, 0)
			}},
			testCase{"RFC 5041 §4.1", fmt.Sprintf("reserved bits, revision %d", revision), "are not checked", func(p *peer) error {
				if err := p.established(revision); err != nil {
					return err
				}
				b := untagged(lastUntagged|0x3c, opReadRequest|0x30, 1, 1, 0, read(0, 0)...)
				copy(b[2:], []byte{1, 2, 3, 4})
				if err := p.send(fpdu(b)); err != nil {
					return err
				}
				return p.answeredRead(0, 0)
			}},
			testCase{"RFC 5040 §5.4", fmt.Sprintf("terminate, revision %d", revision), "ends the connection, and has no answer", func(p *peer) error {
				if err := p.established(revision); err != nil {
					return err
				}
				if err := p.send(fpdu(untagged(lastUntagged, opTerminate, 2, 1, 0, 0, 0, 0, 0))); err != nil {
					return err
				}
				return p.unanswered()
			}})
	}
	for _, n := range []uint16{0, 1, 2, 16, 100, 1000, 0x3ffe} {
		cases = append(cases, accept(reads, fmt.Sprintf("ird of %d", n), "the responder's ORD is no larger", enhanced(n, 16),
			depths(func(ird, ord uint16) bool { return ord&noDepth <= n }, "ORD")))
	}
	for _, rtr := range []struct {
		name     string
		ird, ord uint16 // bits
	}{{"send", 0xc000, 0}, {"write", 0x8000, 0x8000}, {"read", 0x8000, 0x4000}, {"write or read", 0x8000, 0xc000}, {"any", 0xc000, 0xc000}} {
		cases = append(cases, accept(model, "rtr by "+rtr.name, "the reply has A, and a frame that the responder supports", enhanced(rtr.ird|16, rtr.ord|16),
			depths(func(ird, ord uint16) bool { return ird&0x8000 != 0 && (ird&0x4000 != 0 || ord&0xc000 != 0) }, "the choice")))
	}
	return append(cases, rsocketCases()...)
}

// markers asks for them. They stand in front of the first FPDU, and every 512 bytes.
func markers(p *peer) error {
	if err := p.send(startup(requestKey, flagCRC|flagMarkers, 1, p.private)); err != nil {
		return nil
	}
	f, err := p.frame(replyKey)
	if err != nil || f.flags&flagReject != 0 {
		return p.over()
	}
	if f.flags&flagMarkers != 0 {
		return notApplicable("it asks for markers, too, which this program does not send")
	}
	if err := p.send(fpdu(untagged(lastUntagged, opReadRequest, 1, 1, 0, read(0, 0)...))); err != nil {
		return err
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(p, b); err != nil {
		return err
	}
	if !slices.Equal(b, make([]byte, 4)) {
		return fmt.Errorf("the request is accepted, and its first FPDU has no marker: %x", b)
	}
	return nil
}

// rsocketCases are of rsockets, which no RFC has: a stream's private data (librdmacm's rsocket.c).
func rsocketCases() []testCase {
	var cases []testCase
	for name, change := range map[string]func(b []byte) []byte{
		"version 0":             func(b []byte) []byte { b[0] = 0; return b },
		"version 2":             func(b []byte) []byte { b[0] = 2; return b },
		"39 bytes":              func(b []byte) []byte { return b[:39] },
		"no bytes":              func(b []byte) []byte { return nil },
		"a table of 1 entry":    func(b []byte) []byte { b[23] = 1; return b },
		"a table of no entries": func(b []byte) []byte { b[23] = 0; return b },
	} {
		cases = append(cases, testCase{"rsockets", "private data with " + name, "is not accepted", func(p *peer) error {
			if !p.rsocket {
				return notApplicable("not a stream")
			}
			return p.refused(startup(requestKey, flagCRC, 1, change(slices.Clone(p.private))))
		}})
	}
	slices.SortFunc(cases, func(a, b testCase) int { return strings.Compare(a.name, b.name) })
	return append(cases, testCase{"rsockets", "private data of the reply", "has version 1, and a ring", func(p *peer) error {
		if !p.rsocket {
			return notApplicable("not a stream")
		}
		f, err := p.set(1, flagCRC)
		if err != nil {
			return err
		}
		return streamData(f.private)
	}})
}

func streamData(b []byte) error {
	switch {
	case len(b) < 40:
		return fmt.Errorf("%d bytes", len(b))
	case b[0] != 1:
		return fmt.Errorf("version %d", b[0])
	case slices.Equal(b[36:40], make([]byte, 4)):
		return errors.New("a ring of no bytes")
	}
	return nil
}
