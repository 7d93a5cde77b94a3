//go:build amd64 || arm64

package rnic

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

const (
	// maxPending bounds the connection requests that wait for Accept. Those beyond it are rejected.
	maxPending = 128
	// pendingLimit is how long they wait. By then a peer has given up, as Dialers of this module
	// and siw have after 10 s.
	pendingLimit = 10 * time.Second
	// listenBacklog is for the kernel's own queue, which it cuts to net.rdma_ucm.max_backlog.
	listenBacklog = 1024
	// listenAttempts bounds the ports that are tried until one is free at all addresses.
	listenAttempts = 16
)

// Listen implements transport.Transport.
func (t *Transport) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	addrs, err := t.listenAddrs(local, o)
	if err != nil {
		return nil, err
	}
	// A port that is chosen for the first address may be taken at another one.
	for range listenAttempts {
		var l *listener
		if l, err = t.listenOn(addrs, o); err == nil {
			if local.Addr().IsUnspecified() || !local.Addr().IsValid() {
				l.addr = netip.AddrPortFrom(local.Addr(), l.addr.Port())
			}
			return l, nil
		}
		if local.Port() != 0 || len(addrs) == 1 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

func (t *Transport) listenOn(addrs []netip.AddrPort, o *transport.Options) (*listener, error) {
	l := &listener{t: t, o: o, started: make(chan struct{}), done: make(chan struct{})}
	l.pending = newPendings(maxPending, pendingLimit, l.refuse)
	defer close(l.started)
	var unusable error
	for i, a := range addrs {
		if l.addr.IsValid() {
			a = netip.AddrPortFrom(a.Addr(), l.addr.Port())
		}
		err := l.listen(a)
		if i > 0 && a.Addr().IsUnspecified() && errors.Is(err, syscall.EAFNOSUPPORT) {
			break // a host without IPv6
		}
		if err != nil && len(addrs) > 1 && !usable(a.Addr()) {
			unusable = err
			continue
		}
		if err != nil {
			_ = l.Close()
			return nil, err
		}
	}
	if !l.addr.IsValid() {
		_ = l.Close()
		return nil, unusable
	}
	return l, nil
}

// usable reports whether the kernel lets a socket have an address of this host. It does not while
// it finds out whether another host has it, too (RFC 4862, section 5.4), nor once it knows that one
// does.
func usable(a netip.Addr) bool {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err == nil {
		_ = c.Close()
	}
	return !errors.Is(err, syscall.EADDRNOTAVAIL)
}

// A listener is an ID for each address. The goroutine of the event channel puts requests into
// pending.
type listener struct {
	t       *Transport
	o       *transport.Options
	addr    netip.AddrPort
	pending *pendings
	refusal atomic.Pointer[func(netip.AddrPort, []byte) []byte]
	started chan struct{} // closed when Listen returns

	mu     sync.Mutex
	ids    []*cmID
	closed bool
	done   chan struct{}
	err    error // why it is closed
}

func (l *listener) listen(local netip.AddrPort) (err error) {
	id, err := l.t.newID()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // the last one that is left ends the listener
			l.mu.Lock()
			l.ids = slices.DeleteFunc(l.ids, func(i *cmID) bool { return i == id })
			l.mu.Unlock()
			id.destroy()
		}
	}()
	l.mu.Lock()
	l.ids = append(l.ids, id)
	l.mu.Unlock()
	if local.Addr().Is6() {
		// One for both families does not work with siw, which has connections of IPv4 come from
		// addresses of IPv6 that no device has.
		if err := id.set(abi.OptionIDAFOnly, 1, 4); err != nil {
			return err
		}
	}
	if err := l.t.bind(id, local); err != nil {
		return err
	}
	id.owner.Store(&owner{func(ev cmEvent) { l.event(id, ev) }})
	if err := id.ch.lib.call("rdma_listen", id.ch.lib.rdmaListen, id.ptr, listenBacklog); err != nil {
		return err
	}
	l.addr = id.localAddr()
	return nil
}

// event is called by the goroutine of the event channel.
func (l *listener) event(id *cmID, ev cmEvent) {
	if ev.kind != abi.CMEventConnectRequest {
		if ev.kind == abi.CMEventDeviceRemoval {
			go l.lose(id)
		}
		return
	}
	l.pending.add(pending{id: ev.id, private: ev.private, reads: ev.reads})
}

var _ transport.Refuser = (*listener)(nil)

// SetRefusal implements transport.Refuser.
func (l *listener) SetRefusal(f func(remote netip.AddrPort, request []byte) []byte) {
	l.refusal.Store(&f)
}

// refuse refuses a request, with what the user has to say if there is no room for it.
func (l *listener) refuse(p *pending, noRoom bool) {
	var private []byte
	if say := l.refusal.Load(); noRoom && say != nil {
		private = (*say)(p.id.remoteAddr(), p.private)
	}
	p.id.refuse(private)
}

// lose gives up an address whose device was removed. With the last one the listener is at its end.
// One for all devices has no address in this sense: it goes on, including with devices to come.
func (l *listener) lose(id *cmID) {
	<-l.started
	l.mu.Lock()
	l.ids = slices.DeleteFunc(l.ids, func(i *cmID) bool { return i == id })
	last := len(l.ids) == 0
	l.mu.Unlock()
	id.destroy()
	if last {
		_ = l.end(errRemoved)
	}
}

// Accept implements transport.Listener.
func (l *listener) Accept(ctx context.Context) (transport.Request, error) {
	for {
		p, err := l.next(ctx)
		if err != nil {
			return nil, err
		}
		r, err := l.request(p)
		if !errors.Is(err, transport.ErrNoDevice) {
			return r, err
		}
		// The device has gone since.
	}
}

func (l *listener) next(ctx context.Context) (*pending, error) {
	for {
		if p, ok := l.pending.take(); ok {
			return &p, nil
		}
		select {
		case <-l.pending.ready:
		case <-l.done:
			return nil, l.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// request prepares the queue pair of a connection request, which is refused if that fails. Where
// the device is short of something, that is left to the user, who may have something to say.
func (l *listener) request(p *pending) (transport.Request, error) {
	dev, err := l.t.devices.of(p.id.device())
	var q *queuePair
	if err == nil {
		q, err = newQueuePair(l.t, p.id, dev, l.o)
	}
	var short *shortageError
	if errors.As(err, &short) {
		q, err = newPoorQueuePair(l.t, p.id, dev, l.o, short)
	}
	if err != nil {
		l.refuse(p, true)
		return nil, &shortageError{err}
	}
	// What the peer asks for, as far as this end has it.
	q.ird, q.ord = min(q.ird, int(p.reads.ird)), min(q.ord, int(p.reads.ord))
	return &request{q, p.private}, nil
}

// Addr implements transport.Listener.
func (l *listener) Addr() netip.AddrPort { return l.addr }

// Close implements transport.Listener.
func (l *listener) Close() error { return l.end(transport.ErrClosed) }

func (l *listener) end(err error) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return transport.ErrClosed
	}
	l.closed, l.err = true, err
	close(l.done)
	ids := l.ids
	l.ids = nil
	l.mu.Unlock()
	for _, id := range ids {
		id.destroy()
	}
	l.pending.close()
	return nil
}

type request struct {
	q       *queuePair
	private []byte
}

func (r *request) PrivateData() []byte            { return r.private }
func (r *request) QueuePair() transport.QueuePair { return r.q }

// siwPatience is how long a responder on siw is silent for its peer's sake.
const siwPatience = 20 * time.Millisecond

// Accept implements transport.Request.
func (r *request) Accept(ctx context.Context, private []byte) error {
	if err := r.accept(ctx, private); err != nil {
		_ = r.q.Abort()
		return err
	}
	if r.q.dev.siw {
		// An initiator of siw gives up if an FPDU comes right after the MPA reply. By RFC 5044
		// §7.1 the responder waits for one of the initiator's, which hardware sees to. Users of siw
		// speak first as a rule; others have the reply by then.
		_ = r.q.Wait(time.Now().Add(siwPatience))
	}
	return nil
}

func (r *request) accept(ctx context.Context, private []byte) error {
	if err := checkPrivate(private); err != nil {
		return err
	}
	q := r.q
	if err := q.hold(); err != nil {
		return err
	}
	s := getScratch()
	err := q.lib.call("rdma_accept", q.lib.rdmaAccept, q.id.ptr, ptr(s.connParam(private, readLimits{uint8(q.ird), uint8(q.ord)})))
	s.release()
	q.busy.Done()
	if err != nil {
		return err
	}
	ev, err := q.reply(ctx)
	if err != nil {
		return err
	}
	if err := q.answer(&ev); err != nil {
		return err
	}
	return q.established()
}

// Reject implements transport.Request. Nobody else uses the queue pair yet, so it is given back at
// once.
func (r *request) Reject(private []byte) error {
	err := r.reject(private)
	r.q.discard()
	return err
}

func (r *request) reject(private []byte) error {
	if err := checkPrivate(private); err != nil {
		return err
	}
	if !r.q.poor {
		if err := r.q.hold(); err != nil {
			return err
		}
		defer r.q.busy.Done()
	}
	return r.q.id.reject(private)
}

// listenAddrs returns the addresses to listen on: local, or those of the devices that the options
// name.
func (t *Transport) listenAddrs(local netip.AddrPort, o *transport.Options) ([]netip.AddrPort, error) {
	if !local.Addr().IsValid() {
		local = netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())
	}
	list, err := t.devices.list()
	if err != nil {
		return nil, err
	}
	ip := local.Addr().Unmap()
	var addrs []netip.AddrPort
	whole := o == nil || o.Devices == nil
	for _, d := range list {
		if o != nil && o.Devices != nil && !slices.Contains(o.Devices, d.Name) {
			continue
		}
		if len(d.Addrs) == 0 {
			// InfiniBand: rdma_cm knows whether it has the address. A wildcard is for all devices
			// then.
			addrs = append(addrs, netip.AddrPortFrom(ip, local.Port()))
			whole = true
			continue
		}
		for _, a := range d.Addrs {
			if a == ip || ip.IsUnspecified() && covers(ip, a, o) {
				addrs = append(addrs, netip.AddrPortFrom(a, local.Port()))
			}
		}
	}
	switch {
	case len(addrs) == 0:
		return nil, transport.ErrNoDevice
	case !ip.IsUnspecified():
		return addrs[:1], nil
	case !whole:
		return addrs, nil
	case ip.Is4() || o != nil && o.OnlyIPv6:
		return []netip.AddrPort{netip.AddrPortFrom(ip, local.Port())}, nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), local.Port()), netip.AddrPortFrom(ip, local.Port())}, nil
}

// covers reports whether the wildcard covers a.
func covers(wildcard, a netip.Addr, o *transport.Options) bool {
	if wildcard.Is4() || o != nil && o.OnlyIPv6 {
		return wildcard.Is4() == a.Is4()
	}
	return true
}
