package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
)

// alterations are what becomes, on the way, of an untagged FPDU: two bytes of length, DDP and RDMAP
// control, and from offset 8 on queue number, message number and message offset, of 4 bytes each
// (RFC 5041, section 4.3).
var alterations = map[string]func(fpdu []byte){
	"opcode":         func(b []byte) { b[3] |= 0x0f },
	"ddp version":    func(b []byte) { b[2] ^= 0x02 },
	"rdmap version":  func(b []byte) { b[3] ^= 0xc0 },
	"queue number":   func(b []byte) { b[11] = 9 },
	"message number": func(b []byte) { b[14] ^= 0x40 },
	"message offset": func(b []byte) { b[19] ^= 0x04 },
	"crc":            func(b []byte) { b[len(b)-1] ^= 1 },
}

// proxy returns the address of one that passes a connection on to the peer, but for the first
// untagged FPDU, which it alters.
func proxy(to string, alter func(fpdu []byte)) (addr string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		defer ln.Close()
		ours, err := ln.Accept()
		if err != nil {
			return
		}
		defer ours.Close()
		theirs, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer theirs.Close()
		go func() {
			_, _ = io.Copy(ours, theirs)
			ours.Close()
		}()
		_ = pass(theirs, bufio.NewReader(ours), alter)
	}()
	return ln.Addr().String(), nil
}

// pass copies a request and FPDUs, each by one Write: siw wants a CRC in one segment.
func pass(to io.Writer, from io.Reader, alter func(fpdu []byte)) error {
	const requestLen, lengthLen, crcLen, tagged = 20, 2, 4, 0x80
	head := make([]byte, requestLen)
	if _, err := io.ReadFull(from, head); err != nil {
		return err
	}
	if err := forward(to, from, head, int(binary.BigEndian.Uint16(head[18:])), nil); err != nil {
		return err
	}
	for {
		head := make([]byte, lengthLen+1)
		if _, err := io.ReadFull(from, head); err != nil {
			return err
		}
		padded := (lengthLen + int(binary.BigEndian.Uint16(head)) + 3) &^ 3
		var now func([]byte)
		if head[lengthLen]&tagged == 0 {
			now, alter = alter, nil
		}
		if err := forward(to, from, head, padded+crcLen-len(head), now); err != nil {
			return err
		}
	}
}

// forward passes on a frame that begins with head and goes on for n bytes.
func forward(to io.Writer, from io.Reader, head []byte, n int, alter func([]byte)) error {
	frame := append(head, make([]byte, n)...)
	if _, err := io.ReadFull(from, frame[len(head):]); err != nil {
		return err
	}
	if alter != nil {
		alter(frame)
	}
	_, err := to.Write(frame)
	return err
}
