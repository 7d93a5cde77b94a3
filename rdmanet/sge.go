package rdmanet

const sgeLen = 16

// An sge is a piece of a peer's memory: where it starts, the key to it and its length in bytes.
type sge struct {
	addr   uint64
	key    uint32
	length uint32
}

func (o byteOrder) sge(b []byte) sge {
	return sge{addr: o.uint64(b), key: o.uint32(b[8:]), length: o.uint32(b[12:])}
}

func (o byteOrder) putSGE(b []byte, s sge) {
	o.putUint64(b, s.addr)
	o.putUint32(b[8:], s.key)
	o.putUint32(b[12:], s.length)
}

// wraps reports whether n bytes from addr on reach beyond the 64 bits of an address.
func wraps(addr, n uint64) bool { return n > 0 && addr+(n-1) < addr }
