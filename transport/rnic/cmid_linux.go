//go:build amd64 || arm64

package rnic

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// A cmID is a struct rdma_cm_id: a listener, or a connection.
type cmID struct {
	ch      *eventChannel
	ptr     uintptr
	replies chan cmEvent // answers to what was asked for; only one question is open at a time
	owner   atomic.Pointer[owner]
	context uintptr // of the device that it counts for; guarded by contexts
	end     sync.Once
}

// An owner is told what nobody has asked for.
type owner struct{ event func(cmEvent) }

// newID makes an ID for the port space of TCP, which holds for connections of every kind of device.
func (ch *eventChannel) newID() (*cmID, error) {
	s := getScratch()
	defer s.release()
	// With the lock, as no event may come before the ID is known.
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if err := ch.lib.call("rdma_create_id", ch.lib.rdmaCreateID, ch.ptr, ptr(&s.out[0]), 0, uintptr(abi.PSTCP)); err != nil {
		return nil, unavailable(err)
	}
	return ch.add(s.out[0]), nil
}

func (id *cmID) c() *abi.CMID { return at[abi.CMID](id.ptr) }

// deliver is called by the channel's goroutine and does not wait.
func (id *cmID) deliver(ev cmEvent) {
	if o := id.owner.Load(); o != nil && unasked(ev.kind) {
		o.event(ev)
	}
	if ev.kind == abi.CMEventConnectRequest {
		return
	}
	select {
	case id.replies <- ev:
	default: // nobody has asked
	}
}

func unasked(kind abi.CMEventType) bool {
	switch kind {
	case abi.CMEventConnectRequest, abi.CMEventDisconnected, abi.CMEventDeviceRemoval:
		return true
	}
	return false
}

// reply waits for the answer to what was asked for.
func (id *cmID) reply(ctx context.Context) (cmEvent, error) {
	select {
	case ev := <-id.replies:
		return ev, nil
	case <-ctx.Done():
		return cmEvent{}, ctx.Err()
	}
}

// destroy gives the ID back. Its queue pair must be gone.
func (id *cmID) destroy() {
	id.end.Do(func() {
		id.ch.mu.Lock()
		delete(id.ch.ids, id.ptr)
		id.ch.mu.Unlock()
		id.detach()
		id.ch.lib.call("rdma_destroy_id", id.ch.lib.rdmaDestroyID, id.ptr)
		id.ch.leave()
	})
}

// refuse ends a connection request that nobody takes. It waits for nobody, so the goroutine of the
// event channel may call it.
func (id *cmID) refuse(private []byte) {
	_ = id.reject(private)
	id.destroy()
}

func (id *cmID) reject(private []byte) error {
	if err := checkPrivate(private); err != nil {
		return err
	}
	s := getScratch()
	defer s.release()
	p := uintptr(0)
	if n := copy(s.private[:], private); n > 0 {
		p = ptr(&s.private[0])
	}
	return id.ch.lib.call("rdma_reject", id.ch.lib.rdmaReject, id.ptr, p, uintptr(len(private)))
}

func (id *cmID) bind(local netip.AddrPort) error {
	s := getScratch()
	defer s.release()
	putSockaddr(&s.addr, local)
	err := id.ch.lib.call("rdma_bind_addr", id.ch.lib.rdmaBindAddr, id.ptr, ptr(&s.addr))
	if err == nil {
		id.attach()
	}
	return err
}

// set sets an option of the ID (RDMA_OPTION_ID_*), which must be done before what it is for.
func (id *cmID) set(option uintptr, value int32, size uintptr) error {
	s := getScratch()
	defer s.release()
	s.option = value // in its first byte, too, as both processors are little-endian
	return id.ch.lib.call("rdma_set_option", id.ch.lib.rdmaSetOption, id.ptr, abi.OptionID, option, ptr(&s.option), size)
}

func (id *cmID) localAddr() netip.AddrPort  { return addrPort(&id.c().SrcAddr) }
func (id *cmID) remoteAddr() netip.AddrPort { return addrPort(&id.c().DstAddr) }

// device returns the name of the device that the ID belongs to, "" if it does not belong to one.
func (id *cmID) device() string {
	if id.c().Verbs == 0 {
		return ""
	}
	return deviceName(id.c().Verbs)
}

// deviceName returns the name of the device of a struct ibv_context.
func deviceName(context uintptr) string {
	d := at[abi.Device](at[abi.Context](context).Device)
	return cString(d.Name[:])
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// connParam fills the parameters of rdma_connect and rdma_accept. What iWARP has no use for is set
// as for InfiniBand: retries without end when the peer has no receive posted.
func (s *scratch) connParam(private []byte, reads readLimits) *abi.ConnParam {
	s.param = abi.ConnParam{
		ResponderResources: reads.ird, InitiatorDepth: reads.ord,
		FlowControl: 1, RetryCount: 7, RnrRetryCount: 7,
	}
	if len(private) > 0 {
		s.param.PrivateData = ptr(&s.private[0])
		s.param.PrivateDataLen = uint8(copy(s.private[:], private))
	}
	return &s.param
}

// maxPrivate is what every kind of device takes beside iWARP's revision 2 words.
const maxPrivate = 251

func checkPrivate(private []byte) error {
	if len(private) > maxPrivate {
		return errPrivateData
	}
	return nil
}
