package rdmanet

import "github.com/rdmanet/iwarp/transport"

// A memory is registered with a queue pair. The zero memory is none.
type memory struct {
	b      []byte
	region transport.MemoryRegion
}

// memories are what a Conn has over a transport that works on memory: ring and table, which the
// peer writes; slots and stage. Where the ring or the stage has moved on to more, that is where.
type memories struct {
	remote, remoteMore memory
	local, localMore   memory
	ringMost           uint64 // bytes that the ring may get
}

// allocate registers n bytes of new memory, which the queue pair brings if it can.
func allocate(qp transport.QueuePair, n int, access transport.Access) (m memory, err error) {
	if a, ok := transport.As[transport.MemoryAllocator](qp); ok {
		m.b, m.region, err = a.AllocateMemory(n, access)
		return m, err
	}
	m.b = make([]byte, n)
	m.region, err = qp.RegisterMemory(m.b, access)
	return m, err
}

// part returns the bytes from i to j, with the capacity up to the region's end: some transports
// find their place by that.
func (m memory) part(i, j int) memory { return memory{m.b[i:j], m.region} }

// free ends the use of the memory. What was posted to be sent from it is still sent.
func (m memory) free() {
	if m.region != nil {
		_ = m.region.Deregister()
	}
}

// release gives all memory back once the connection is closed and no call is left.
func (c *Conn) release() {
	c.sendMu.Lock() // no request is on its way to the send queue
	c.mu.Lock()
	c.ring.Release()
	c.in.Space.Close()
	var m memories
	if c.mem != nil {
		m, *c.mem = *c.mem, memories{}
	}
	c.released = true
	c.withdraw()
	c.mu.Unlock()
	c.sendMu.Unlock()
	for _, m := range [...]memory{m.remote, m.local, m.remoteMore, m.localMore} {
		m.free()
	}
}
