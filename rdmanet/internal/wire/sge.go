package wire

// SGELen is the number of bytes of an SGE on the wire.
const SGELen = 16

// An SGE is a piece of a peer's memory: where it starts, the key to it and its length in bytes.
// The key is a capability, so it is not to be logged.
type SGE struct {
	Addr   uint64
	Key    uint32
	Length uint32
}

// SGE returns what is at the start of b.
func (o Order) SGE(b []byte) SGE {
	return SGE{Addr: o.uint64(b), Key: o.Uint32(b[8:]), Length: o.Uint32(b[12:])}
}

// PutSGE puts s at the start of b.
func (o Order) PutSGE(b []byte, s SGE) {
	o.putUint64(b, s.Addr)
	o.PutUint32(b[8:], s.Key)
	o.PutUint32(b[12:], s.Length)
}

// Wraps reports whether n bytes from addr on exceed the 64 bits of an address.
func Wraps(addr, n uint64) bool { return n > 0 && addr+(n-1) < addr }
