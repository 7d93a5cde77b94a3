package main

import (
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"

	"github.com/rdmanet/iwarp/examples/grpc/blobpb"
)

// serve serves on l. The caller must call stop.
func serve(out io.Writer, l net.Listener) (stop func() error) {
	s := grpc.NewServer()
	blobpb.RegisterBlobsServer(s, blobs{})
	done := make(chan error, 1)
	go func() { done <- s.Serve(tellingListener{l, out}) }()
	return func() error {
		s.GracefulStop()
		return <-done
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
