//go:build amd64 || arm64

package rnic

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/nldev"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// An eventChannel reports what happens to connections. One serves all of a Transport, with a
// goroutine that lasts as long as there are any.
type eventChannel struct {
	lib  *library
	ptr  uintptr // struct rdma_event_channel
	f    *os.File
	rc   syscall.RawConn
	gone func() // forget the channel

	// taking is held while librdmacm takes an event, and while the queue pair of an ID is destroyed:
	// it looks at that of the event's ID, without a lock, and changes its state.
	taking sync.Mutex

	mu  *sync.Mutex       // the transport's, held when gone is called
	ids map[uintptr]*cmID // those that are not destroyed
	n   int               // of those that keep the channel
}

// A cmEvent is a copy of a struct rdma_cm_event.
type cmEvent struct {
	kind    abi.CMEventType
	status  int32
	private []byte
	reads   readLimits
	id      *cmID // of a connection request: the new one
}

// readLimits are the RDMA Reads that a connection should carry: those that this end answers at
// once, and those that it has under way.
type readLimits struct{ ird, ord uint8 }

// newEventChannel makes a channel, which lasts until leave has been called for what add and the
// caller have counted in n.
func newEventChannel(lib *library, mu *sync.Mutex, gone func()) (*eventChannel, error) {
	p, err := lib.create("rdma_create_event_channel", lib.rdmaCreateEventChannel)
	if err != nil {
		if links, _ := nldev.Links(); errors.Is(err, syscall.ENODEV) && len(links) > 0 {
			return nil, &UnavailableError{NoProvider, err} // for any of the devices that are there
		}
		return nil, unavailable(err)
	}
	ch := &eventChannel{lib: lib, ptr: p, gone: gone, mu: mu, ids: make(map[uintptr]*cmID)}
	if ch.f, ch.rc, err = pollable(&at[abi.EventChannel](p).Fd, "rdma_cm"); err != nil {
		ch.destroy()
		return nil, err
	}
	go ch.serve()
	return ch, nil
}

// pollable puts a descriptor that a library has opened into Go's poller. It belongs to the file
// from now on: the library is left -1 to close.
func pollable(fd *int32, name string) (*os.File, syscall.RawConn, error) {
	if err := unix.SetNonblock(int(*fd), true); err != nil {
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(*fd), name)
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	return f, rc, nil
}

func (ch *eventChannel) leave() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.n--; ch.n == 0 {
		ch.gone()
		_ = ch.f.Close()
	}
}

func (ch *eventChannel) destroy() {
	if ch.f != nil {
		at[abi.EventChannel](ch.ptr).Fd = -1
	}
	purego.SyscallN(ch.lib.rdmaDestroyEventChannel, ch.ptr)
}

// serve hands out events until the channel is closed.
func (ch *eventChannel) serve() {
	defer ch.destroy()
	s := getScratch()
	defer s.release()
	// It fails while there is no event, and then the poller waits.
	next := func(uintptr) bool {
		ch.taking.Lock()
		defer ch.taking.Unlock()
		r, _, _ := purego.SyscallN(ch.lib.rdmaGetCMEvent, ch.ptr, ptr(&s.out[0]))
		return int32(r) == 0
	}
	for ch.rc.Read(next) == nil {
		ch.dispatch(s.out[0])
	}
}

// dispatch has the event's connection act on it. The event is given back after its ID was looked
// up, as until then the ID cannot be destroyed and its address used again.
func (ch *eventChannel) dispatch(p uintptr) {
	e := at[abi.CMEvent](p)
	ev := cmEvent{kind: abi.CMEventType(e.Event), status: e.Status, reads: readLimits{e.Conn.ResponderResources, e.Conn.InitiatorDepth}}
	if e.Conn.PrivateData != 0 {
		ev.private = append(ev.private, unsafe.Slice(at[byte](e.Conn.PrivateData), e.Conn.PrivateDataLen)...)
	}
	to := e.ID
	ch.mu.Lock()
	if ev.kind == abi.CMEventConnectRequest {
		to = e.ListenID
		ev.id = ch.add(e.ID)
		ev.id.attach()
	}
	id := ch.ids[to]
	if id != nil && ev.kind == abi.CMEventDeviceRemoval {
		id.attach() // whoever destroys it has it removed from ids before
		id.lost()
	}
	ch.mu.Unlock()
	ch.lib.call("rdma_ack_cm_event", ch.lib.rdmaAckCMEvent, p)
	switch {
	case id != nil:
		id.deliver(ev)
	case ev.id != nil:
		ev.id.refuse(nil)
	}
}

// add records an ID. The caller holds mu.
func (ch *eventChannel) add(p uintptr) *cmID {
	id := &cmID{ch: ch, ptr: p, replies: make(chan cmEvent, 4)}
	ch.ids[p] = id
	ch.n++
	return id
}
