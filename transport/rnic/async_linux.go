//go:build amd64 || arm64

package rnic

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/nldev"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// A watch reads what a device reports unasked (asynchronous events), for as long as there are IDs
// of this process on it, with a goroutine that serves all of them.
type watch struct {
	lib     *library
	context uintptr // struct ibv_context
	f       *os.File
	rc      syscall.RawConn

	mu      sync.Mutex
	over    bool                   // context must not be touched
	objects map[uintptr]*queuePair // by their struct ibv_qp and ibv_cq
}

// startWatch returns nil where the device's events cannot be had, which is no reason not to use it.
func startWatch(lib *library, context uintptr) *watch {
	fd, err := unix.FcntlInt(uintptr(at[abi.Context](context).AsyncFd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	w := &watch{lib: lib, context: context, objects: make(map[uintptr]*queuePair)}
	own := int32(fd)
	if w.f, w.rc, err = pollable(&own, "rdma events"); err != nil {
		_ = unix.Close(fd)
		return nil
	}
	go w.serve()
	return w
}

// stop ends the watch. Once it has returned, the context is not touched any more.
func (w *watch) stop() {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	_ = w.f.SetReadDeadline(past)
}

// add has events about the object of the device be those of q.
func (w *watch) add(object uintptr, q *queuePair) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.objects[object] = q
	w.mu.Unlock()
}

func (w *watch) remove(object uintptr) {
	if w == nil {
		return
	}
	w.mu.Lock()
	delete(w.objects, object)
	w.mu.Unlock()
}

func (w *watch) serve() {
	defer w.f.Close()
	s := getScratch()
	defer s.release()
	var act func()
	next := func(uintptr) (found bool) {
		act, found = w.next(s)
		return found
	}
	for w.rc.Read(next) == nil {
		if act == nil {
			return
		}
		act()
	}
}

// next takes an event, and returns what is to be done about it, which is nil if there will be no
// more. It returns false if there is none yet. The event is given back after its queue pair was
// looked up, as until then that cannot be destroyed and its address used again.
func (w *watch) next(s *scratch) (act func(), found bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return nil, true
	}
	if r, _, _ := purego.SyscallN(w.lib.ibvGetAsyncEvent, w.context, ptr(&s.out[0])); int32(r) != 0 {
		return nil, false
	}
	e := at[abi.AsyncEvent](ptr(&s.out[0]))
	act = w.event(e.EventType, e.Element)
	purego.SyscallN(w.lib.ibvAckAsyncEvent, ptr(&s.out[0]))
	return act, true
}

// event returns what is to be done about an event. The caller holds mu.
func (w *watch) event(kind uint32, object uintptr) func() {
	switch kind {
	case abi.EventDeviceFatal:
		all := make(map[*queuePair]bool)
		for _, q := range w.objects {
			all[q] = true
		}
		name := deviceName(w.context)
		return func() {
			markFailed(name)
			for q := range all {
				q.broke(errFailed)
			}
		}
	case abi.EventQPFatal, abi.EventQPReqErr, abi.EventQPAccessErr, abi.EventCQErr:
		if q := w.objects[object]; q != nil {
			return func() { q.broke(brokenBy(reports[kind])) }
		}
	case abi.EventPortErr, abi.EventPortActive, abi.EventGIDChange, abi.EventLidChange:
		return devicesChanged
	}
	return func() {}
}

// reports are what events say about a connection.
var reports = map[uint32]error{
	abi.EventCQErr:       errors.New("device reports an error of the completion queue"),
	abi.EventQPFatal:     errors.New("device reports an error of the queue pair"),
	abi.EventQPReqErr:    errors.New("device reports an invalid request of the peer"),
	abi.EventQPAccessErr: errors.New("device reports a violation of access rights by the peer"),
}

// broke ends the queue pair for what its device reports, unless what it has completed says why.
func (q *queuePair) broke(err error) {
	q.mu.Lock()
	for q.reapSome() > 0 {
		q.rouse()
	}
	q.mu.Unlock()
	q.fail(transport.StateError, err)
}

// changes counts what may make lists of devices out of date.
var changes atomic.Uint64

func devicesChanged() { changes.Add(1) }

// failed has the numbers of the devices that have reported a fatal error. One that is made anew, as
// drivers do to get going again, has another number.
var failed struct {
	sync.Mutex
	m map[uint32]bool
}

func markFailed(name string) {
	links, err := nldev.Links()
	if err != nil {
		return
	}
	failed.Lock()
	defer failed.Unlock()
	for i := range links {
		if links[i].Device == name {
			if failed.m == nil {
				failed.m = make(map[uint32]bool)
			}
			failed.m[links[i].Index] = true
		}
	}
	devicesChanged()
}

func hasFailed(index uint32) bool {
	failed.Lock()
	defer failed.Unlock()
	return failed.m[index]
}
