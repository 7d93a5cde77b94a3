package iwarp

import (
	"context"
	"os"
	"time"
)

// limit returns ctx with what Timeout, Deadline and Cancel add to it.
func (d *Dialer) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline := d.Deadline
	if d.Timeout != 0 { // a negative one has passed already, as for package net
		if t := time.Now().Add(d.Timeout); deadline.IsZero() || t.Before(deadline) {
			deadline = t
		}
	}
	var cancel context.CancelFunc
	if deadline.IsZero() {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	if d.Cancel != nil {
		go func() {
			select {
			case <-d.Cancel:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// handshake returns ctx limited to the time that an iWARP connection set-up may take.
func (a *dialing) handshake(ctx context.Context) (context.Context, context.CancelFunc) {
	limit, falls := a.HandshakeTimeout, a.policy != OffloadRequire
	switch {
	case limit > 0:
	case falls:
		limit = defaultFallbackTimeout
	default:
		limit = defaultDialHandshakeTimeout
	}
	if deadline, ok := ctx.Deadline(); ok && falls {
		limit = min(limit, time.Until(deadline)/2)
	}
	return context.WithTimeout(ctx, limit)
}

// minPatience is how long a peer must have been silent for that to be a trait of the peer, unless HandshakeTimeout says less.
const minPatience = 200 * time.Millisecond

// hasty reports whether a wait that began then was cut too short, by the time left for the dial, to tell about the peer.
func (a *dialing) hasty(began time.Time) bool {
	enough := minPatience
	if a.HandshakeTimeout > 0 {
		enough = min(enough, a.HandshakeTimeout)
	}
	return time.Since(began) < enough
}

// over returns the error of a context that has ended. A deadline that has passed counts even before the context's timer
// has noticed, as sockets have timers of their own.
func over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// ctxError puts the error of a context in the words of package net.
func ctxError(err error) error {
	switch err {
	case context.Canceled:
		return canceledError{}
	case context.DeadlineExceeded:
		return timeoutError{}
	}
	return err
}

type canceledError struct{}

func (canceledError) Error() string        { return "operation was canceled" }
func (canceledError) Is(target error) bool { return target == context.Canceled }

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }
func (timeoutError) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}
