package shm

import (
	"errors"
	"math/bits"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	headerSize = 1 << 10 // in front of the ring
	firstSize  = 4 << 10 // of the memory, there from the start

	seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
)

// Where the words of the header are, each in a pair of cache lines of its own but for one.
const (
	atTail   = 0
	atHead   = 128
	atReader = 256
	atWriter = 384
	atEnd    = 512
	atLeaves = atEnd + 4 // read as often, and with it
	atWay    = 640
	atIdle   = 768
)

var errSegment = errors.New("memory of the peer is no sealed memfd of a proper size")

// A segment is the memory in which one end receives, mapped. Both ends can write to all of it at
// any time.
type segment struct {
	mem  []byte
	data []byte // the ring
	// Bytes written to the ring and read from it since the start, by the sender and the receiver.
	tail, head *atomic.Uint64
	// Whoever sleeps sets its word to 1, or a reader that dozes to 2; whoever sets it back wakes it.
	reader, writer *atomic.Uint32
	end            *atomic.Uint32 // why nothing more comes from the sender; the tail is final before it is set
	leaves         *atomic.Uint32 // 1 once the sender discards what comes, although it has something to send
	way            *atomic.Uint32 // how the reader is to spend brief waits, if the sender is the client
	idle           *atomic.Uint32 // 1 once the sender, a server, is done with the link, for another connection

	budget *budget // that it was taken off; nil for a peer's
}

// newSegment makes a segment. The caller passes the descriptor on and closes it.
func newSegment(b *budget) (*segment, int, error) {
	ring := b.take()
	if ring == 0 {
		return nil, -1, errMemory
	}
	s, fd, err := ringOf(ring)
	if err != nil {
		b.give(ring)
		return nil, -1, err
	}
	s.budget = b
	return s, fd, nil
}

func ringOf(size int) (*segment, int, error) {
	fd, err := unix.MemfdCreate("iwarp-shm", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, -1, os.NewSyscallError("memfd_create", err)
	}
	s, err := sealedSegment(fd, headerSize+size)
	if err != nil {
		_ = unix.Close(fd)
		return nil, -1, err
	}
	return s, fd, nil
}

// sealedSegment gives an empty memfd the size of a segment, for good, and maps it.
func sealedSegment(fd, size int) (*segment, error) {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, os.NewSyscallError("ftruncate", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	s, err := mapSegment(fd, size)
	if err != nil {
		return nil, err
	}
	if err := allocate(fd, s.mem[:firstSize]); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// allocate has the memory, which is at the start of a file, be there.
func allocate(fd int, mem []byte) error {
	err := unix.Madvise(mem, unix.MADV_POPULATE_WRITE)
	switch err {
	case nil:
		return nil
	case unix.EINVAL: // before Linux 5.14
	case unix.EFAULT:
		err = unix.ENOMEM
		fallthrough
	default:
		return os.NewSyscallError("madvise", err)
	}
	for {
		err := unix.Fallocate(fd, 0, 0, int64(len(mem)))
		if err != unix.EINTR { // a signal of the runtime's
			return os.NewSyscallError("fallocate", err)
		}
	}
}

// openSegment maps the segment of a peer, about which nothing is certain.
func openSegment(fd int) (*segment, error) {
	// First, as it asks no file system of the peer's, which might not answer.
	if got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil || got&seals != seals {
		return nil, errSegment
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Fstat(fd, &st) != nil || unix.Fstatfs(fd, &fs) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int64(fs.Type) != unix.TMPFS_MAGIC {
		return nil, errSegment // memory in huge pages may not be there when it is touched
	}
	ring := st.Size - headerSize
	if ring < leastRing || ring > ringSize || bits.OnesCount64(uint64(ring)) != 1 {
		return nil, errSegment
	}
	return mapSegment(fd, int(st.Size))
}

func mapSegment(fd, size int) (*segment, error) {
	m, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	if err := unix.Madvise(m, unix.MADV_DONTFORK); err != nil {
		_ = unix.Munmap(m)
		return nil, os.NewSyscallError("madvise", err)
	}
	word := func(at int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&m[at])) }
	index := func(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&m[at])) }
	return &segment{
		mem: m, data: m[headerSize:],
		tail: index(atTail), head: index(atHead),
		reader: word(atReader), writer: word(atWriter), end: word(atEnd), leaves: word(atLeaves), way: word(atWay), idle: word(atIdle),
	}, nil
}

// isAwake reports whether the reader will find what comes without being woken.
func (s *segment) isAwake() bool {
	r := s.reader.Load()
	return r == awake || r == looking
}

func (s *segment) size() uint64 { return uint64(len(s.data)) }

// close gives the mapping back. The segment must not be used after that.
func (s *segment) close() {
	if s != nil && s.mem != nil {
		_ = unix.Munmap(s.mem)
		s.mem = nil
		if s.budget != nil {
			s.budget.give(len(s.data))
		}
	}
}

// pieces returns the n bytes of the ring from pos on, the second piece for those beyond its end.
func (s *segment) pieces(pos, n uint64) (a, b []byte) {
	at := pos & (s.size() - 1)
	if room := s.size() - at; n > room {
		return s.data[at:], s.data[:n-room]
	}
	return s.data[at : at+n], nil
}

// word returns where the word at pos is, which must be a multiple of its size.
func (s *segment) word(pos uint64) *uint64 {
	return (*uint64)(unsafe.Pointer(&s.data[pos&(s.size()-1)]))
}
