// Package setup has what listeners and dials of transports over sockets do alike until a connection
// is up: the bound on half-open connections, and the time limit of a handshake.
package setup

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// past is a deadline that makes a blocked call return.
var past = time.Unix(1, 0)

// Within runs f on c under a deadline and ctx, and returns ctx's error or ErrHandshakeTimeout where
// one of them ended it.
func Within(ctx context.Context, c net.Conn, limit time.Duration, f func() error) error {
	end := time.Now().Add(limit)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	_ = c.SetDeadline(end)
	kicked := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetDeadline(past)
		close(kicked)
	})
	err := f()
	if d, ok := ctx.Deadline(); ok && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(d) {
		<-ctx.Done() // at most a moment after the connection's own deadline
	}
	if !stop() {
		<-kicked // its deadline must not come after those of the connection's later life
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return transport.ErrHandshakeTimeout
	}
	return err
}
