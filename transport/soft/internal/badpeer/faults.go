package main

import (
	"time"

	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// infoLen is the length of the messages that rping takes.
const infoLen = 16

// faults are what the peer can be made to find, by name.
var faults = map[string]func(*peer) error{
	"none":       func(p *peer) error { return p.put(p.write(p.ring.key, p.ring.addr, []byte("x"))) },
	"wrong stag": func(p *peer) error { return p.put(p.write(0xdeadbeef, 0, []byte("x"))) },
	"bounds":     func(p *peer) error { return p.put(p.write(p.ring.key, p.ring.addr+1<<30, []byte("x"))) },
	"send too long": func(p *peer) error {
		return p.put(p.send(ddp.Untagged{Last: true, MSN: 1}, rdmap.OpSend, make([]byte, 4*infoLen)))
	},
	"no receive": func(p *peer) error {
		var all []byte
		for msn := uint32(1); msn <= 8; msn++ {
			all = append(all, p.send(ddp.Untagged{Last: true, MSN: msn}, rdmap.OpSend, make([]byte, infoLen))...)
		}
		return p.put(all)
	},
	"message number": func(p *peer) error {
		return p.put(p.send(ddp.Untagged{Last: true, MSN: 7}, rdmap.OpSend, make([]byte, 4)))
	},
	"message offset": func(p *peer) error {
		return p.put(p.send(ddp.Untagged{Last: true, MSN: 1, MO: 2}, rdmap.OpSend, make([]byte, 2)))
	},
	"queue number": func(p *peer) error {
		return p.put(p.send(ddp.Untagged{Last: true, MSN: 1, QN: 5}, rdmap.OpSend, make([]byte, 4)))
	},
	"opcode": func(p *peer) error {
		return p.put(p.send(ddp.Untagged{Last: true, MSN: 1}, rdmap.Opcode(12), make([]byte, 4)))
	},
	"ddp version": func(p *peer) error {
		return p.put(p.altered(func(ulpdu []byte) { ulpdu[0] = ulpdu[0]&^ddp.ControlVersion | 2 }))
	},
	"rdmap version": func(p *peer) error {
		return p.put(p.altered(func(ulpdu []byte) { ulpdu[1] &^= rdmap.ControlVersion }))
	},
	"crc": func(p *peer) error {
		b := p.write(p.ring.key, p.ring.addr, []byte("x"))
		b[len(b)-1] ^= 1
		return p.put(b)
	},
	"length": func(p *peer) error {
		return p.put(mpa.Seal(make([]byte, mpa.FPDULen(3)), 3, p.crc))
	},
	"split crc": func(p *peer) error {
		b := p.write(p.ring.key, p.ring.addr, []byte("x"))
		return p.put(b[:len(b)-2], b[len(b)-2:])
	},
	"split payload": func(p *peer) error {
		b := p.write(p.ring.key, p.ring.addr, []byte("splinter"))
		return p.put(b[:len(b)-8], b[len(b)-8:])
	},
}

const (
	// between is left before each segment, so that the peer's kernel has ended its part of the
	// set-up, and sees each by itself.
	between = 200 * time.Millisecond
	// reaction is longer than a peer takes to find a fault and say so.
	reaction = 2 * time.Second
)

// put sends each piece as a segment of its own, and ends the stream a while later if the peer has
// not.
func (p *peer) put(segments ...[]byte) error {
	for _, b := range segments {
		time.Sleep(between)
		if _, err := p.Write(b); err != nil {
			return err
		}
	}
	time.AfterFunc(reaction, func() { _ = p.CloseWrite() })
	return nil
}

func (p *peer) seal(ulpdu []byte) []byte {
	fpdu := make([]byte, mpa.FPDULen(len(ulpdu)))
	copy(fpdu[mpa.LengthLen:], ulpdu)
	return mpa.Seal(fpdu, len(ulpdu), p.crc)
}

func (p *peer) write(stag uint32, to uint64, data []byte) []byte {
	h := ddp.Tagged{Last: true, ULP: rdmap.Control(rdmap.OpWrite), STag: stag, TO: to}
	return p.seal(append(h.Append(nil), data...))
}

func (p *peer) send(h ddp.Untagged, op rdmap.Opcode, data []byte) []byte {
	h.ULP = rdmap.Control(op)
	return p.seal(append(h.Append(nil), data...))
}

// altered is a Send whose header was changed.
func (p *peer) altered(change func(ulpdu []byte)) []byte {
	h := ddp.Untagged{Last: true, ULP: rdmap.Control(rdmap.OpSend), MSN: 1}
	ulpdu := append(h.Append(nil), make([]byte, 4)...)
	change(ulpdu)
	return p.seal(ulpdu)
}
