package transport

import "strconv"

// An STag names a memory region on the wire (RFC 5041 §2.1). Any peer that knows it may use it: it
// is a capability, so it must not be logged.
type STag uint32

// String returns a mark in place of the value, which is a secret between two peers.
func (s STag) String() string {
	if s == 0 {
		return "stag(none)"
	}
	return "stag(…" + strconv.FormatUint(uint64(s&0xff), 16) + ")"
}

// Access holds the rights of a memory region. Every region may be read by local requests.
type Access uint8

const (
	LocalWrite  Access = 1 << iota // receives and RDMA Read responses may be placed in it
	RemoteWrite                    // the peer may write to it
	RemoteRead                     // the peer may read from it

	// CallerDriven allows a software transport to serve the peer's access only while some call of
	// Post, Wait or Drain is under way on the queue pair. Without it a region with a remote right
	// is served at all times.
	CallerDriven

	// Spare is for memory that the caller can do without. A device refuses it where not much more can
	// be registered, so that what others cannot do without is left to them.
	Spare
)

// A MemoryRegion is memory registered with a queue pair. It is bound to that one connection. Its
// methods may be called by several goroutines at once; a second Deregister fails.
type MemoryRegion interface {
	STag() STag
	// Base is the tagged offset of the first byte, which the peer is told with the STag.
	Base() uint64
	Len() uint64
	// Deregister revokes the STag. Once it has returned, nothing more is placed in or read from the
	// memory.
	Deregister() error
}

// A Placer takes the payload of inbound RDMA Writes in place of memory. A transport that places by
// software can save a copy this way.
type Placer interface {
	// Place is called with verified payload that begins off bytes into the region, in the order of the
	// wire, by one goroutine at a time. It must not block, call the queue pair or keep p. With news a
	// call of Wait that is under way, or else the next one, returns nil, though Poll may have nothing:
	// whoever waits should look at what was placed. An error ends the connection with a base and
	// bounds error.
	Place(off uint64, p []byte) (news bool, err error)
}

// A Targeter is a Placer that can say beforehand where it would copy bytes. A transport that has
// them at hand only piece by piece, such as from a socket, can then put them there at once.
type Targeter interface {
	Placer
	// Target returns the n bytes of memory to which Place, called with off, would copy as many, or nil
	// if there is no such place. It is called by the goroutine that is in a call of Wait, and the
	// memory is touched only until that returns, whatever Deregister and Close say. What is put there
	// counts for nothing until Place is called with that very memory.
	Target(off uint64, n int) []byte
}
