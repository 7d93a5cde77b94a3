//go:build amd64 || arm64

package rnic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

type connector struct{ q *queuePair }

func (c *connector) QueuePair() transport.QueuePair { return c.q }

// Close implements transport.Connector.
func (c *connector) Close() error {
	if c.q.State() != transport.StateIdle {
		return nil
	}
	return c.q.Close()
}

// Connect implements transport.Connector.
func (c *connector) Connect(ctx context.Context, private []byte) (peer []byte, err error) {
	peer, err = c.q.connect(ctx, private)
	if err != nil {
		_ = c.q.Abort()
		return nil, err
	}
	if c.q.dev.siw {
		c.q.nudgeAfter(nudges[:])
	}
	return peer, nil
}

func (q *queuePair) connect(ctx context.Context, private []byte) ([]byte, error) {
	if err := checkPrivate(private); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, handshakeEnd(ctx)
	}
	if err := q.hold(); err != nil {
		return nil, err
	}
	called := make(chan error, 1)
	// siw connects within the call, for as long as TCP tries.
	go func() {
		defer q.busy.Done()
		s := getScratch()
		defer s.release()
		called <- q.lib.call("rdma_connect", q.lib.rdmaConnect, q.id.ptr, ptr(s.connParam(private, readLimits{uint8(q.ird), uint8(q.ord)})))
	}()
	select {
	case err := <-called:
		if err != nil {
			return nil, q.connectError(err)
		}
	case <-q.stop:
		return nil, transport.ErrClosed
	case <-ctx.Done():
		return nil, handshakeEnd(ctx)
	}
	ev, err := q.reply(ctx)
	if err != nil {
		return nil, err
	}
	if err := q.answer(&ev); err != nil {
		return nil, err
	}
	return ev.private, q.established()
}

// connectError names what a failure of the call says.
func (q *queuePair) connectError(err error) error {
	switch {
	case errors.Is(err, syscall.ETIMEDOUT):
		return transport.ErrHandshakeTimeout
	case q.dev.IWARP && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		return &transport.NotIWARPError{Cause: err} // quicker than the call
	}
	return err
}

// handshakeEnd is the error of a set-up that has taken too long or is no longer wanted.
func handshakeEnd(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return transport.ErrHandshakeTimeout
	}
	return ctx.Err()
}

// InfiniBand's reasons of a rejection (enum ib_cm_rej_reason of the kernel's rdma/ib_cm.h).
const (
	rejectInvalidService = 8
	rejectConsumer       = 28
)

// A rejection is the peer's connection manager's, for a reason of enum ib_cm_rej_reason.
type rejection int32

func (r rejection) Error() string {
	return fmt.Sprintf("connection request rejected for reason %d of InfiniBand", int32(r))
}

// Unwrap returns a *transport.RejectedError without private data.
func (rejection) Unwrap() error { return &transport.RejectedError{} }

// answer is what the event that ends a connection request means.
//
// An MPA reply that rejects is ECONNRESET with siw, and ECONNREFUSED with the drivers of hardware,
// which say the same where nobody listens: what tells them apart is the private data.
func (q *queuePair) answer(ev *cmEvent) error {
	cause := errnoOf(ev.status)
	switch ev.kind {
	case abi.CMEventEstablished:
		return nil
	case abi.CMEventRejected:
		switch {
		case !q.dev.IWARP && ev.status == rejectInvalidService, errors.Is(cause, syscall.ECONNREFUSED) && q.dev.IWARP && len(ev.private) == 0:
			return os.NewSyscallError("rdma_connect", syscall.ECONNREFUSED)
		case !q.dev.IWARP && ev.status != rejectConsumer:
			return rejection(ev.status)
		case q.dev.IWARP && len(ev.private) == 0:
			return &transport.NotIWARPError{Cause: errHungUp}
		}
		return &transport.RejectedError{PrivateData: ev.private}
	case abi.CMEventUnreachable:
		if q.dev.IWARP && !errors.Is(cause, syscall.ETIMEDOUT) {
			return os.NewSyscallError("rdma_connect", cause)
		}
		return transport.ErrHandshakeTimeout
	case abi.CMEventDeviceRemoval:
		return errRemoved
	case abi.CMEventDisconnected:
		return &transport.NotIWARPError{Cause: errHungUp}
	}
	if q.dev.IWARP {
		return &transport.NotIWARPError{Cause: cause}
	}
	return os.NewSyscallError("rdma_connect", cause)
}
