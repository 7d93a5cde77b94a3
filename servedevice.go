package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/rdmanet/iwarp/transport"
)

// serveDevice has the requests that come in through a device served, until its listener ends.
func (l *Listener) serveDevice(d *deviceListener) {
	defer l.workers.Done()
	defer d.ended()
	for {
		r, err := d.Accept(l.ctx)
		if err != nil {
			var t interface{ Temporary() bool }
			if isClosed(l.done) || l.draining.Load() || !errors.As(err, &t) || !t.Temporary() {
				return
			}
			select {
			case l.errs <- l.fail("accept", bare(err)):
				continue
			case <-l.done:
				return
			}
		}
		if !l.acquire() {
			_ = r.Reject(nil)
			return
		}
		h := &halfOpen{phase: decided}
		l.half.add(h)
		r, leave := l.overDevice(d, r)
		l.workers.Add(1)
		go func() {
			defer l.workers.Done()
			defer l.leave(h)
			if !l.shake(h, func(context.Context) (transport.Request, error) { return r, nil }, d.info) {
				leave()
			}
		}()
	}
}

// deviceRequest is a request that came in through a device, whose queue pair is qp.
type deviceRequest struct {
	transport.Request
	qp *deviceQP
}

func (r deviceRequest) QueuePair() transport.QueuePair { return r.qp }

// overDevice has what comes of r hold the port that the device listens on, and show that of the service. If nothing comes of it, leave is to be called.
func (l *Listener) overDevice(d *deviceListener, r transport.Request) (_ transport.Request, leave func()) {
	port := l.port
	if d.port != nil {
		port = d.port.port
	}
	q := &deviceQP{QueuePair: r.QueuePair(), local: l.tcp.Addr().(*net.TCPAddr).AddrPort().Port()}
	e, err := port.join(netip.AddrPort{})
	if err == nil {
		q.port = e
		q.leaveWhenGone()
	} // else the listener is closed
	return deviceRequest{r, q}, q.leave
}
