package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"syscall"
)

const (
	cmdOpen  = 1
	cmdClose = 2
	cmdWrite = 3
	answered = 0x80 // added to the command by an answer

	headerSize = 16
	most       = 4096 // of a message
)

// A header begins every message, in the byte order of the host: version 0, command, length with
// this header, and data.
type header struct {
	command uint8
	data    uint32 // of an answer, 0 or the number of an error
}

// What follows a header.
type rest []byte

func (r rest) text() string { s, _, _ := bytes.Cut(r, []byte{0}); return string(s) }

func (r rest) number() int64 { return int64(binary.NativeEndian.Uint64(r)) }

type peer struct{ net.Conn }

func newPeer(ctx context.Context, conn net.Conn) (*peer, error) {
	deadline, _ := ctx.Deadline()
	return &peer{conn}, conn.SetDeadline(deadline)
}

func (p *peer) say(h header, rest []byte) error {
	b := make([]byte, headerSize, headerSize+len(rest))
	b[1] = h.command
	binary.NativeEndian.PutUint16(b[2:], uint16(headerSize+len(rest)))
	binary.NativeEndian.PutUint32(b[4:], h.data)
	_, err := p.Write(append(b, rest...))
	return err
}

// hear returns io.EOF at the end of the stream.
func (p *peer) hear() (header, rest, error) {
	b := make([]byte, headerSize)
	if _, err := io.ReadFull(p, b); err != nil {
		return header{}, nil, err
	}
	n := int(binary.NativeEndian.Uint16(b[2:]))
	if b[0] != 0 || n < headerSize || n > most {
		return header{}, nil, fmt.Errorf("version %d, length %d", b[0], n)
	}
	r := make(rest, n-headerSize)
	if _, err := io.ReadFull(p, r); err != nil {
		return header{}, nil, err
	}
	h := header{command: b[1], data: binary.NativeEndian.Uint32(b[4:])}
	if h.command == cmdWrite && len(r) != 8 {
		return h, r, fmt.Errorf("a length of %d bytes", len(r))
	}
	return h, r, nil
}

func (p *peer) answer(h header, errno syscall.Errno) error {
	return p.say(header{command: h.command | answered, data: uint32(errno)}, nil)
}

// ask sends a command, with bulk after it, and waits for the answer.
func (p *peer) ask(h header, rest, bulk []byte) error {
	if err := p.say(h, rest); err != nil {
		return err
	}
	if _, err := p.Write(bulk); err != nil {
		return err
	}
	a, _, err := p.hear()
	switch {
	case err != nil:
		return err
	case a.command != h.command|answered:
		return fmt.Errorf("answer %#x to command %d", a.command, h.command)
	case a.data != 0:
		return syscall.Errno(a.data)
	}
	return nil
}
