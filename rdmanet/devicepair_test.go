package rdmanet_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/rdmanet/iwarp/transport"
)

// A device is a restricted queue pair that brings its memory, and takes it away on Deregister:
// whoever touches it afterwards does not survive, where the system has a way to see to that.
type device struct {
	restricted
	mu    sync.Mutex
	sends []transport.SendWR
	recvs []transport.RecvWR

	regions atomic.Int32       // that are not given back
	access  []transport.Access // that they were asked for with
	bytes   atomic.Int64       // of all that were ever made
	spares  atomic.Int32       // of regions, those that were spare
	stingy  bool               // has no spare memory
}

func newDevice(qp transport.QueuePair) *device { return &device{restricted: restricted{QueuePair: qp}} }

func (d *device) RegisterMemory(b []byte, _ transport.Access) (transport.MemoryRegion, error) {
	return nil, errors.New("memory is not the device's own")
}

func (d *device) AllocateMemory(n int, access transport.Access) ([]byte, transport.MemoryRegion, error) {
	if access&transport.Spare != 0 {
		if d.stingy {
			return nil, nil, syscall.ENOMEM
		}
		d.spares.Add(1)
	}
	b, err := mapPages(n)
	if err != nil {
		return nil, nil, err
	}
	d.bytes.Add(int64(n))
	r, err := d.QueuePair.RegisterMemory(b, access)
	if err != nil {
		unmapPages(b)
		return nil, nil, err
	}
	d.regions.Add(1)
	d.access = append(d.access, access)
	return b, &deviceRegion{MemoryRegion: r, b: b, d: d}, nil
}

type deviceRegion struct {
	transport.MemoryRegion
	b []byte
	d *device
}

// Deregister is allowed after Close, when the transport below has forgotten the region.
func (r *deviceRegion) Deregister() error {
	r.MemoryRegion.Deregister()
	r.d.regions.Add(-1)
	return unmapPages(r.b)
}

func (d *device) PostSend(wrs []transport.SendWR) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sends = append(d.sends[:0], wrs...)
	for i := range d.sends {
		d.sends[i].Region = without(wrs[i].Region)
	}
	return d.restricted.PostSend(d.sends)
}

func (d *device) PostRecv(wrs []transport.RecvWR) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recvs = append(d.recvs[:0], wrs...)
	for i := range d.recvs {
		d.recvs[i].Region = without(wrs[i].Region)
	}
	return d.restricted.PostRecv(d.recvs)
}

func without(r transport.MemoryRegion) transport.MemoryRegion {
	if d, ok := r.(*deviceRegion); ok {
		return d.MemoryRegion
	}
	return r
}

// immediate is a device that has RDMA Write with Immediate. Below it an RDMA Write and a Send take
// its place.
type immediate struct {
	*device
	mu    sync.Mutex
	words []byte
	mr    transport.MemoryRegion
	ids   []uint64 // of the receives posted
	next  int
	recv  [1]transport.RecvWR
	pair  [2]transport.SendWR
	word  [4]byte
}

func newImmediate(qp transport.QueuePair) *immediate { return &immediate{device: newDevice(qp)} }

func (q *immediate) Attributes() transport.Attributes {
	a := q.device.Attributes()
	a.Immediate = true
	a.SendDepth /= 2
	return a
}

func (q *immediate) PostRecv(wrs []transport.RecvWR) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mr == nil {
		q.ids = make([]uint64, q.Attributes().RecvDepth)
		q.words = make([]byte, 4*len(q.ids))
		if q.mr, err = q.QueuePair.RegisterMemory(q.words, transport.LocalWrite); err != nil {
			return 0, err
		}
	}
	for i, wr := range wrs {
		if len(wr.Data) > 0 {
			return i, errors.New("a receive for immediate data needs no memory")
		}
		at := q.next % len(q.ids)
		q.ids[at] = wr.ID
		q.recv[0] = transport.RecvWR{ID: uint64(at), Data: q.words[4*at:][:4], Region: q.mr}
		if _, err := q.QueuePair.PostRecv(q.recv[:]); err != nil {
			return i, err
		}
		q.next++
	}
	return len(wrs), nil
}

func (q *immediate) PostSend(wrs []transport.SendWR) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, wr := range wrs {
		switch wr.Opcode {
		case transport.OpWriteImmediate:
		case transport.OpWrite:
			q.pair[0] = wr
			if _, err := q.device.PostSend(q.pair[:1]); err != nil {
				return i, err
			}
			continue
		default:
			return i, errors.New("words go as immediate data here")
		}
		binary.BigEndian.PutUint32(q.word[:], wr.Immediate)
		q.pair[0] = wr
		q.pair[1] = transport.SendWR{ID: wr.ID, Opcode: transport.OpSend, Flags: wr.Flags | transport.Inline, Data: q.word[:]}
		pair := q.pair[:]
		pair[0].Opcode = transport.OpWrite
		pair[0].Flags &^= transport.Signaled
		if len(wr.Data) == 0 {
			pair = pair[1:]
		}
		if _, err := q.device.PostSend(pair); err != nil {
			return i, err
		}
	}
	return len(wrs), nil
}

func (q *immediate) Poll(wc []transport.Completion) int {
	n := q.QueuePair.Poll(wc)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range wc[:n] {
		w := &wc[i]
		if w.Opcode != transport.OpRecv {
			continue
		}
		w.Opcode = transport.OpRecvImmediate
		w.Immediate = binary.BigEndian.Uint32(q.words[4*w.ID:])
		w.ID = q.ids[w.ID]
	}
	return n
}
