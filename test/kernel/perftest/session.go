package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// What perftest says of itself.
const (
	version     = "6.06"
	versionSize = 16
	mtu         = "3" // IBV_MTU_1024
	mtuSize     = 2
	page, line  = 4096, 64

	controlSize = 56 // the largest message of the first connection, and the one of every step
)

// A session is a run of a test, from the connection that controls it to the one that is measured.
type session struct {
	*config
	control, data *link
	remote        struct { // the peer's memory, as of the last step
		key  uint32
		addr uint64
	}
}

// exchange sends b and returns as many bytes of the peer's; the client speaks first.
func (s *session) exchange(b []byte) ([]byte, error) {
	got := make([]byte, len(b))
	say, hear := func() error { return s.control.send(b) }, func() error { return s.control.hear(got) }
	if s.dial == "" {
		say, hear = hear, say
	}
	if err := say(); err != nil {
		return nil, err
	}
	return got, hear()
}

// opening is what the ends say before the second connection.
func (s *session) opening() error {
	text := func(s string, size int) []byte { return append([]byte(s), make([]byte, size-len(s))...) }
	got, err := s.exchange(text(version, versionSize))
	if err != nil {
		return err
	}
	if v, _, _ := bytes.Cut(got, []byte{0}); !strings.HasPrefix(string(v), "6.") {
		return fmt.Errorf("the peer's version is %q", v)
	}
	for _, n := range []uint32{page, line} {
		if _, err := s.exchange(binary.BigEndian.AppendUint32(nil, n)); err != nil {
			return err
		}
	}
	if _, err := s.exchange(text(mtu, mtuSize)); err != nil {
		return err
	}
	return s.step()
}

// step waits for the peer to come as far, and has each end tell of its memory.
func (s *session) step() error {
	b := make([]byte, controlSize)
	if s.data != nil {
		binary.BigEndian.PutUint32(b[16:], uint32(s.data.mr.STag()))
		binary.BigEndian.PutUint64(b[24:], s.data.mr.Base())
	}
	b, err := s.exchange(b)
	if err != nil {
		return err
	}
	s.remote.key, s.remote.addr = binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint64(b[24:])
	return nil
}
