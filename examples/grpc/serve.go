package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/examples/grpc/blobpb"
)

// patience is what clients that have connected have until they are accepted.
const patience = 30 * time.Second

// listen returns a listener at the address, or on the socket that systemd holds for the program.
// Clients wait in that one's queue while one process follows another.
func listen(address string) (*iwarp.Listener, error) {
	inherited, err := iwarp.DefaultPortSpace.Inherit()
	if err != nil {
		return nil, err
	}
	if len(inherited) > 0 {
		address = inherited[0].Addr().String()
	}
	l, err := iwarp.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*iwarp.Listener), nil
}

// serve serves on l. The caller must call stop, which ends calls in order: Drain first, as
// GracefulStop closes the listener with all that wait in its queue, whom a new process with the
// socket would serve. What is left of a gap is told in docs/grpc.md.
func serve(out io.Writer, l *iwarp.Listener) (stop func() error) {
	s := grpc.NewServer()
	blobpb.RegisterBlobsServer(s, blobs{})
	done := make(chan error, 1)
	go func() { done <- s.Serve(tellingListener{l, out}) }()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := l.Drain(ctx)
		if end := <-done; !errors.Is(end, net.ErrClosed) { // which Drain has Accept return
			err = errors.Join(err, end)
		}
		s.GracefulStop()
		return err
	}
}

// tellingListener says of every connection which path it took. A service that does not care gives
// the listener of iwarp.Listen to Serve as it is.
type tellingListener struct {
	net.Listener
	out io.Writer
}

func (l tellingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		fmt.Fprintf(l.out, "  server: connection from %v over %s\n", c.RemoteAddr(), describe(c))
	}
	return c, err
}
