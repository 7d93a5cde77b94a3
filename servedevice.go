package iwarp

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/transport"
)

// deviceRetry is how long to wait after a passing failure of a device.
const deviceRetry = 5 * time.Millisecond

// serveDevices starts serving the devices' requests, for as long as there are calls of Accept. Its
// caller holds l.mu.
func (l *Listener) serveDevices() {
	list := l.deviceList()
	if len(list) == 0 {
		return
	}
	if l.idle == nil {
		l.deviceCtx, l.idle = context.WithCancel(l.ctx)
	}
	for _, d := range list {
		if !l.serving[d] && !d.down.Load() {
			l.serving[d] = true
			l.workers.Go(func() { l.serveDevice(d) })
		}
	}
}

// serveDevice serves the requests that come in through a device, until no Accept waits any more or
// the device's listener ends.
func (l *Listener) serveDevice(d *deviceListener) {
	for {
		ctx := l.waitsForDevice(d)
		if ctx == nil {
			return
		}
		r, err := d.Accept(ctx)
		switch {
		case err == nil:
			l.serveRequest(d, r)
		case ctx.Err() != nil:
		case !l.report(ctx, err):
			d.ended()
		}
	}
}

// waitsForDevice returns the context of the wait, or nil if there is none, in which case
// serveDevice must end.
func (l *Listener) waitsForDevice(d *deviceListener) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == 0 || l.state != listens || d.down.Load() {
		delete(l.serving, d)
		l.settle()
		return nil
	}
	return l.deviceCtx
}

// report hands a passing failure of a device to a call of Accept that waits. It returns false if it
// will not pass.
func (l *Listener) report(ctx context.Context, err error) bool {
	var t interface{ Temporary() bool }
	if !errors.As(err, &t) || !t.Temporary() {
		return false
	}
	l.mu.Lock()
	if l.calls > 0 {
		l.fault = l.fail("accept", neterr.Bare(err))
		l.kick()
	}
	l.mu.Unlock()
	waitFor(ctx, deviceRetry) // so that the loop is no faster than its user
	return true
}

func (l *Listener) serveRequest(d *deviceListener, r transport.Request) {
	h := &halfOpen{since: time.Now()}
	r, leave := l.overDevice(d, r)
	place, ok := l.hasDeviceShare(r.QueuePair())
	h.place, h.surplus = place, !ok
	if ok && l.half.add(h) {
		l.counters.overflowed.Add(1)
	}
	l.workers.Go(func() {
		if ok { // or it is refused, which takes no place from those that are not
			defer l.forget(h)
		}
		if c := l.shakeDevice(h, d, r); c != nil {
			l.deliver(client{Conn: c}) // or else it is closed
		} else {
			leave()
		}
	})
}

// leaveDevices gives the devices' ports back, once nobody serves them.
func (h *listening) leaveDevices() {
	for _, d := range h.deviceList() {
		d.ended()
	}
}

// deviceRequest is a request that came in through a device, whose queue pair is qp.
type deviceRequest struct {
	transport.Request
	qp *deviceQP
}

func (r deviceRequest) QueuePair() transport.QueuePair { return r.qp }

// overDevice makes what comes of r hold the port that the device listens on, and show that of the
// service. If nothing comes of it, leave must be called.
func (l *Listener) overDevice(d *deviceListener, r transport.Request) (_ transport.Request, leave func()) {
	join := l.port.Join
	if d.port != nil {
		join = d.port.Join
	}
	q := &deviceQP{QueuePair: r.QueuePair(), local: l.tcp.Addr().(*net.TCPAddr).AddrPort().Port()}
	e, err := join()
	if err == nil {
		q.port = e
		q.leavePortWhenGone()
	} // otherwise the listener is closed
	return deviceRequest{r, q}, q.leavePort
}
