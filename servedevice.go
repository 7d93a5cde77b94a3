package iwarp

import (
	"context"
	"errors"
	"net"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/transport"
)

// deviceRetry is how long to wait after a passing failure of a device.
const deviceRetry = 5 * time.Millisecond

// serveDevices starts serving the devices' requests, for as long as there are calls of Accept. Its
// caller holds l.mu.
func (l *Listener) serveDevices() {
	if l.called != nil {
		close(l.called)
		l.called = nil
	}
	for _, d := range l.deviceList() {
		if d.pushes {
			continue
		}
		if l.idle == nil {
			l.deviceCtx, l.idle = context.WithCancel(l.ctx)
		}
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

// bePushed has a device's listener hand on its requests itself, if it can.
func (l *Listener) bePushed(d *deviceListener) {
	p, ok := d.Listener.(transport.RequestPusher)
	if !ok {
		return
	}
	d.pushes = true
	self := weak.Make(l)
	p.PushRequests(func(r transport.Request) (again <-chan struct{}, taken bool) {
		l := self.Value()
		if l == nil {
			return nil, false // the device's listener is about to be closed
		}
		if again, ok := l.takesPushed(d); !ok {
			return again, false
		}
		defer l.workers.Done()
		l.shakeRequest(d, r)()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pushed--
		l.settle()
		return nil, true
	})
}

// takesPushed counts a request of a device if there is a call of Accept, and otherwise returns what
// is closed by the next one.
func (l *Listener) takesPushed(d *deviceListener) (again <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.state != listens || d.down.Load():
		return nil, false // as above
	case l.calls == 0:
		if l.called == nil {
			l.called = make(chan struct{})
		}
		return l.called, false
	}
	l.pushed++
	l.workers.Add(1)
	return nil, true
}

func (l *Listener) serveRequest(d *deviceListener, r transport.Request) {
	l.workers.Go(l.shakeRequest(d, r))
}

// shakeRequest takes a request of a device, and returns what makes a connection of it.
func (l *Listener) shakeRequest(d *deviceListener, r transport.Request) func() {
	h := &halfOpen{since: time.Now()}
	r, leave := l.overDevice(d, r)
	place, ok := l.hasDeviceShare(r.QueuePair())
	h.place, h.surplus = place, !ok
	if ok && l.half.add(h) {
		l.counters.overflowed.Add(1)
	}
	return func() {
		if ok { // or it is refused, which takes no place from those that are not
			defer l.forget(h)
		}
		if c := l.shakeDevice(h, d, r); c != nil {
			l.deliver(client{Conn: c}) // or else it is closed
		} else {
			leave()
		}
	}
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
