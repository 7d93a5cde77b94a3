package wiretest

import (
	"slices"

	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// Splitter decodes one direction of a stream of FPDUs. The zero value is ready to use.
type Splitter struct {
	CRC      bool
	Segments []rdmap.Segment // delivered so far; their payloads are copies
	Err      error           // of the first FPDU refused; nothing is delivered after it

	pending []byte
}

// Feed takes the next bytes of the stream.
func (s *Splitter) Feed(p []byte) {
	s.pending = append(s.pending, p...)
	for s.Err == nil {
		n, ok := mpa.Peek(s.pending)
		if !ok || n > len(s.pending) {
			return
		}
		s.Err = s.deliver(s.pending[:n])
		s.pending = s.pending[n:]
	}
}

// Pending returns the number of bytes that belong to no FPDU yet.
func (s *Splitter) Pending() int { return len(s.pending) }

func (s *Splitter) deliver(fpdu []byte) error {
	ulpdu, err := mpa.CheckFPDU(fpdu, s.CRC)
	if err != nil {
		return err
	}
	segment, err := rdmap.Validate(ulpdu)
	if err != nil {
		return err
	}
	segment.Payload = slices.Clone(segment.Payload)
	s.Segments = append(s.Segments, segment)
	return nil
}

// Split decodes the concatenation of the pieces, handed over one by one.
func Split(crc bool, pieces ...[]byte) *Splitter {
	s := &Splitter{CRC: crc}
	for _, p := range pieces {
		s.Feed(p)
	}
	return s
}
