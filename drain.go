package iwarp

import (
	"context"
	"net"
	"syscall"
)

// Drain stops taking clients, so that whoever has a File of the listener gets all that come from now on. Those that are here are made
// out, and Accept goes on to return them; then it returns net.ErrClosed. Drain waits until all are made out, and Close is still to
// be called. If the context ends first, it closes the Listener and the error is that of the context.
func (l *Listener) Drain(ctx context.Context) error {
	if !l.ok() {
		return syscall.EINVAL
	}
	if l.direct {
		return l.Close()
	}
	if !l.draining.CompareAndSwap(false, true) {
		return l.fail("drain", net.ErrClosed)
	}
	err := l.stopListening()
	go func() {
		l.workers.Wait()
		close(l.drained)
	}()
	select {
	case <-l.drained:
		return err
	case <-ctx.Done():
		_ = l.Close()
		return l.fail("drain", ctxError(ctx.Err()))
	}
}

// stopListening closes what clients come in by.
func (l *Listener) stopListening() error {
	err := l.port.unlisten(l.tcp, l.handed.Load())
	l.stopDevices()
	return err
}

// last returns what is left for Accept once nothing more will come.
func (l *Listener) last() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	default:
		return nil, l.fail("accept", net.ErrClosed)
	}
}
