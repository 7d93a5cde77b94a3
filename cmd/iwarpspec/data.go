package main

import "fmt"

// Control bytes of DDP: a segment that is the last of its message, and one that is not.
const (
	lastTagged, moreTagged, lastUntagged, moreUntagged = 0xc1, 0x81, 0x41, 0x01
)

// RDMAP opcodes, with the version.
const (
	opWrite = 0x40 + iota
	opReadRequest
	opReadResponse
	opSend
	opSendInvalidate
	opSendSE
	opSendSEInvalidate
	opTerminate
)

// Causes of a Terminate (RFC 5040 §4.8, RFC 5041 §7.2, RFC 5044 §8, RFC 6581 §8).
var (
	mpaCRC, mpaIRD, mpaRTR = cause{2, 0, 2}, cause{2, 0, 6}, cause{2, 0, 7}

	taggedSTag, taggedForeign, taggedWrap, taggedVersion = cause{1, 1, 0}, cause{1, 1, 2}, cause{1, 1, 3}, cause{1, 1, 4}

	noQueue, noBuffer, badMSN, badOffset = cause{1, 2, 1}, cause{1, 2, 2}, cause{1, 2, 3}, cause{1, 2, 4}
	tooLong, untaggedVersion             = cause{1, 2, 5}, cause{1, 2, 6}

	remoteSTag, remoteForeign, rdmapVersion, badCode = cause{0, 1, 0}, cause{0, 1, 3}, cause{0, 2, 5}, cause{0, 2, 6}
	notInvalidated, notItsToDo                       = cause{0, 2, 9}, cause{0, 1, 9}
)

// noSTag is a name that nobody has been told. If it is one by chance, a case fails once.
const noSTag = 0x5eed5eed

// A fault is what a connection that is established ends with. Without a cause any will do.
type fault struct {
	section, name, rule string
	bytes               func() []byte
	want                []cause
}

func read(size, stag uint32) []byte {
	b := make([]byte, 28)
	b[12], b[13], b[14], b[15] = byte(size>>24), byte(size>>16), byte(size>>8), byte(size)
	b[16], b[17], b[18], b[19] = byte(stag>>24), byte(stag>>16), byte(stag>>8), byte(stag)
	return b
}

func faults() []fault {
	seg := func(s []byte) func() []byte { return func() []byte { return fpdu(s) } }
	var all []fault
	add := func(section, name, rule string, b func() []byte, want ...cause) {
		all = append(all, fault{section, name, rule, b, want})
	}
	const ends, endsSomehow = "ends the connection with a Terminate that says so", "ends the connection with a Terminate; of which cause is left open"
	// RFC 5044
	for bit := 0; bit < 32; bit++ {
		add("RFC 5044 §4.4", fmt.Sprintf("bit %d of the crc flipped", bit), ends, func() []byte {
			b := fpdu(untagged(lastUntagged, opSend, 0, 1, 0, 0, 0, 0, 0))
			b[len(b)-4+bit/8] ^= 1 << (bit % 8)
			return b
		}, mpaCRC)
	}
	add("RFC 5044 §4.4", "pad changed", ends, func() []byte {
		b := fpdu(tagged(lastTagged, opWrite, noSTag, 0, 1))
		b[len(b)-5] ^= 1
		return b
	}, mpaCRC)
	// RFC 5041
	for n := range 2 {
		add("RFC 5041 §4.1", fmt.Sprintf("segment of %d bytes", n), endsSomehow, seg(tagged(lastTagged, opWrite, noSTag, 0)[:n]))
	}
	for n := 2; n < 14; n++ {
		add("RFC 5041 §4.2", fmt.Sprintf("tagged segment of %d bytes", n), endsSomehow, seg(tagged(lastTagged, opWrite, noSTag, 0)[:n]))
	}
	for n := 2; n < 18; n++ {
		add("RFC 5041 §4.3", fmt.Sprintf("untagged segment of %d bytes", n), endsSomehow, seg(untagged(lastUntagged, opSend, 0, 1, 0)[:n]))
	}
	for _, v := range []byte{0, 2, 3} {
		add("RFC 5041 §4.1", fmt.Sprintf("ddp version %d, tagged", v), ends, seg(tagged(0xc0|v, opWrite, noSTag, 0, 1)), taggedVersion)
		add("RFC 5041 §4.1", fmt.Sprintf("ddp version %d, untagged", v), ends, seg(untagged(0x40|v, opSend, 0, 1, 0, 1)), untaggedVersion)
	}
	for _, q := range []uint32{3, 4, 1 << 16, 1 << 31, 1<<32 - 1} {
		add("RFC 5041 §7.1", fmt.Sprintf("send to queue %d", q), ends, seg(untagged(lastUntagged, opSend, q, 1, 0, 0, 0, 0, 0)), noQueue)
	}
	// The numbers from 2 on may be in the range of what is posted, and may wait for the first.
	for _, n := range []uint32{0, 1 << 31, 1<<32 - 1} {
		add("RFC 5041 §7.1", fmt.Sprintf("msn of %d in place of 1", n), ends, seg(untagged(lastUntagged, opSend, 0, n, 0, 0, 0, 0, 0)), badMSN, noBuffer)
		add("RFC 5041 §7.1", fmt.Sprintf("msn of %d in place of 1, of a read request", n), ends, seg(untagged(lastUntagged, opReadRequest, 1, n, 0, read(0, 0)...)), badMSN, noBuffer)
	}
	add("RFC 5041 §7.1", "msn used twice, of a read request", ends, func() []byte {
		b := fpdu(untagged(lastUntagged, opReadRequest, 1, 1, 0, read(0, 0)...))
		return append(b, b...)
	}, badMSN)
	// A small offset may be in the buffer, and nobody need check that all of a message has come.
	for _, n := range []uint32{1 << 31, 1<<32 - 1} {
		add("RFC 5041 §7.1", fmt.Sprintf("offset of %d at the start of a message", n), ends, seg(untagged(lastUntagged, opSend, 0, 1, n, 0, 0, 0, 0)), badOffset, tooLong)
	}
	for _, stag := range []uint32{0, 1, noSTag, 1<<32 - 1} {
		add("RFC 5041 §7.1", fmt.Sprintf("write to stag %#x", stag), ends, seg(tagged(lastTagged, opWrite, stag, 0, 1)), taggedSTag, taggedForeign)
		add("RFC 5041 §7.1", fmt.Sprintf("write to stag %#x, not the last segment", stag), ends, seg(tagged(moreTagged, opWrite, stag, 0, 1)), taggedSTag, taggedForeign)
		add("RFC 5041 §7.1", fmt.Sprintf("write to stag %#x, at the end of the offsets", stag), ends, seg(tagged(lastTagged, opWrite, stag, 1<<64-1, 1, 2)), taggedSTag, taggedForeign, taggedWrap)
	}
	add("RFC 5041 §7.1", "message longer than its buffer", ends, func() []byte {
		return fpdu(untagged(lastUntagged, opSend, 0, 1, 0, make([]byte, 40_000)...))
	}, tooLong, noBuffer)
	// RFC 5040. Version 0 is that of the RDMA Consortium, and valid.
	for _, v := range []byte{2, 3} {
		add("RFC 5040 §4.1", fmt.Sprintf("rdmap version %d", v), ends, seg(untagged(lastUntagged, v<<6|3, 0, 1, 0, 0, 0, 0, 0)), rdmapVersion)
		add("RFC 5040 §4.1", fmt.Sprintf("rdmap version %d, tagged", v), ends, seg(tagged(lastTagged, v<<6, noSTag, 0, 1)), rdmapVersion, taggedSTag)
	}
	for op := byte(8); op < 16; op++ {
		if op < 12 { // of RFC 7306, if the peer has that; then the rest of the segment is wrong
			add("RFC 5040 §7.2", fmt.Sprintf("opcode %d", op), endsSomehow, seg(untagged(lastUntagged, 0x40|op, 0, 1, 0, make([]byte, 29)...)))
			continue
		}
		add("RFC 5040 §7.2", fmt.Sprintf("opcode %d", op), ends, seg(untagged(lastUntagged, 0x40|op, 0, 1, 0, make([]byte, 28)...)), badCode)
	}
	for _, op := range []byte{opReadRequest, opSend, opSendInvalidate, opSendSE, opSendSEInvalidate, opTerminate} {
		add("RFC 5040 §4.1", fmt.Sprintf("opcode %d in a tagged segment", op&15), ends, seg(tagged(lastTagged, op, noSTag, 0, make([]byte, 32)...)), badCode, taggedSTag)
	}
	for _, op := range []byte{opWrite, opReadResponse} {
		add("RFC 5040 §4.1", fmt.Sprintf("opcode %d in an untagged segment", op&15), ends, seg(untagged(lastUntagged, op, 0, 1, 0, make([]byte, 32)...)), badCode, tooLong)
	}
	for _, op := range []byte{opSend, opSendInvalidate, opSendSE, opSendSEInvalidate} {
		for _, q := range []uint32{1, 2} {
			add("RFC 5040 §4.1", fmt.Sprintf("opcode %d to queue %d", op&15, q), ends, seg(untagged(lastUntagged, op, q, 1, 0, 0, 0, 0, 0)), noQueue, badCode)
		}
	}
	for _, q := range []uint32{0, 2} {
		add("RFC 5040 §5.2.1", fmt.Sprintf("read request to queue %d", q), ends, seg(untagged(lastUntagged, opReadRequest, q, 1, 0, read(0, 0)...)), noQueue, badCode)
	}
	for _, n := range []int{0, 1, 27, 29, 60} {
		add("RFC 5040 §4.4", fmt.Sprintf("read request with %d bytes", n), endsSomehow, seg(untagged(lastUntagged, opReadRequest, 1, 1, 0, make([]byte, n)...)))
	}
	add("RFC 5040 §4.4", "read request in two segments", endsSomehow, func() []byte {
		return append(fpdu(untagged(moreUntagged, opReadRequest, 1, 1, 0, read(0, 0)...)), fpdu(untagged(lastUntagged, opReadRequest, 1, 1, 28, 0, 0, 0, 0))...)
	})
	add("RFC 5040 §5.2.2", "read response that nobody asked for", ends, seg(tagged(lastTagged, opReadResponse, noSTag, 0, 1)), taggedSTag, taggedForeign, badCode)
	for _, size := range []uint32{1, 4, 1 << 20, 1<<32 - 1} {
		add("RFC 5040 §7.2", fmt.Sprintf("read of %d bytes of an stag that there is not", size), ends, seg(untagged(lastUntagged, opReadRequest, 1, 1, 0, read(size, noSTag)...)), remoteSTag, remoteForeign)
	}
	for _, op := range []byte{opSendInvalidate, opSendSEInvalidate} {
		add("RFC 5040 §7.2", fmt.Sprintf("opcode %d invalidates what there is not", op&15), ends, func() []byte {
			b := untagged(lastUntagged, op, 0, 1, 0, 0, 0, 0, 0)
			copy(b[2:], []byte{0x5e, 0xed, 0x5e, 0xed})
			return fpdu(b)
		}, notInvalidated, notItsToDo)
	}
	return all
}

// allCases are all there are in a role: those of the set-up, and each fault once that is over. As
// the initiator both revisions of the set-up are used; as the responder, that of the request.
func allCases(responder bool) []testCase {
	if responder {
		all := answerCases()
		for _, f := range faults() {
			all = append(all, testCase{f.section, f.name, f.rule, func(p *peer) error {
				if err := p.answered(); err != nil {
					return err
				}
				return p.faulty(&f, nil)
			}})
		}
		return all
	}
	all := setupCases()
	for _, f := range faults() {
		for _, revision := range []byte{1, 2} {
			all = append(all, testCase{f.section, fmt.Sprintf("%s, revision %d", f.name, revision), f.rule, func(p *peer) error {
				if err := p.established(revision); err != nil {
					return err
				}
				// A Write of nothing opens the responder's gate (RFC 5044 §7.1.2), and does nothing else.
				return p.faulty(&f, fpdu(tagged(lastTagged, opWrite, 1, 0)))
			}})
		}
	}
	return all
}

func (p *peer) faulty(f *fault, before []byte) error {
	if err := p.send(append(before, f.bytes()...)); err != nil {
		return err
	}
	return p.terminated(f.want...)
}
