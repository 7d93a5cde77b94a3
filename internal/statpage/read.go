package statpage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Page is what a process says of itself, as its reader has found it. Nothing in it has to be
// true.
type Page struct {
	PID     uint64 // as the process sees itself
	Since   time.Time
	Netns   uint64 // inode of the network namespace in which the page was made; 0 if that is not known
	Lost    uint64 // how much found no room on the page
	Busy    int    // records that kept changing while they were read
	Tally   Tally
	Entries []Entry
}

var (
	// ErrNotPage means that a file is no statistics page.
	ErrNotPage = errors.New("not a statistics page of this host")
	// ErrShort means that a page ends too soon.
	ErrShort = errors.New("statistics page is cut short")
	// ErrMalformed means that the numbers in a header make no sense.
	ErrMalformed = errors.New("malformed statistics page")
)

// A VersionError means that a page has a version that the reader does not know.
type VersionError struct{ Version uint32 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("statistics page has version %d, this program reads version %d", e.Version, version)
}

// Bounds for what may be added to a header or record without a new version.
const (
	mostHeader = 1 << 20
	mostRecord = 1 << 12
)

// Read reads a page. It believes nothing that it finds.
func Read(r io.ReaderAt) (*Page, error) {
	var b [headerSize]byte
	n, err := r.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n < 8 || word(b[:], headMagic) != magicWord() {
		return nil, ErrNotPage
	}
	if n < 16 {
		return nil, ErrShort
	}
	if v := uint32(word(b[:], headVersion)); v != version {
		return nil, &VersionError{v}
	}
	if n < headerSize {
		return nil, ErrShort
	}
	start, size, capacity := word(b[:], headVersion)>>32, word(b[:], headRecord), word(b[:], headCapacity)
	if start < headerSize || start > mostHeader || size < recordSize || size > mostRecord || size%8 != 0 || capacity > 1<<20 {
		return nil, ErrMalformed
	}
	p := &Page{
		PID: word(b[:], headPID), Since: time.Unix(0, int64(min(word(b[:], headSince), 1<<63-1))), Netns: word(b[:], headNetns), Lost: word(b[:], headLost),
		Tally: tallyOf(func(i int) uint64 { return word(b[:], headTally+i) }),
	}
	return p, p.readRecords(r, int64(start), int(size), int(capacity))
}

func word(b []byte, i int) uint64 { return binary.NativeEndian.Uint64(b[8*i:]) }

// readRecords reads what is in use of capacity records. Each row of them is read three times: what
// it had as numbers before and after the second time must be the same.
func (p *Page) readRecords(r io.ReaderAt, at int64, size, capacity int) error {
	var before, row, after []byte
	for n := 0; capacity > 0; capacity -= n {
		n = min(capacity, chunkRecords)
		if row == nil {
			before, row, after = make([]byte, n*size), make([]byte, n*size), make([]byte, n*size)
		}
		left := make([]int, 0, n)
		for i := range n {
			left = append(left, i)
		}
		for try := 0; len(left) > 0 && try < maxRows; try++ {
			for _, b := range [][]byte{before, row, after} {
				if k, err := r.ReadAt(b[:n*size], at); k < n*size {
					if err != nil && !errors.Is(err, io.EOF) {
						return err
					}
					return ErrShort
				}
			}
			left = p.settled(left, before, row, after, size)
		}
		p.Busy += len(left)
		at += int64(n * size)
	}
	return nil
}

// maxRows is how often a row is read for records that change.
const maxRows = 5

// settled takes the records that have not changed, and returns the others.
func (p *Page) settled(list []int, before, row, after []byte, size int) (left []int) {
	for _, i := range list {
		seq := binary.NativeEndian.Uint64(before[i*size:])
		switch {
		case seq>>8&1 == 1, binary.NativeEndian.Uint64(after[i*size:]) != seq:
			left = append(left, i)
		case Kind(seq) != free:
			var words [recordWords]uint64
			for w := range words {
				words[w] = binary.NativeEndian.Uint64(row[i*size+8*w:])
			}
			words[wordSeq] = seq
			p.Entries = append(p.Entries, entryOf(&words))
		}
	}
	return left
}

// A Process has a page, or one that cannot be read.
type Process struct {
	PID   int
	Name  string // which it chooses itself
	UID   uint32
	Netns uint64 // inode of its network namespace; 0 if that is not known
	Page  *Page
	Err   error // why there is no Page
}

// A Census is what a look at all processes has found.
type Census struct {
	Processes []Process
	Hidden    int // processes that may not be looked into
}
