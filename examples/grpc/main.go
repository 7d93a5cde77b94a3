// Command grpc runs a gRPC service on one port for iWARP and plain TCP clients, and calls it: one
// unary call and a stream in each direction.
//
// Without arguments it does both ends, over iWARP and then over plain TCP on the same port, and
// checks the SHA-256 of every stream. On two hosts:
//
//	grpc -listen :9090
//	grpc -connect server:9090
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/rdmanet/iwarp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("grpc", flag.ContinueOnError)
	listen := f.String("listen", "", "serve on this `address`, or on the socket from systemd, until interrupted")
	connect := f.String("connect", "", "call the server at this `address`")
	size := f.Int64("size", 128<<20, "`bytes` of each stream")
	var offload iwarp.Offload
	f.TextVar(&offload, "offload", iwarp.OffloadPrefer, "`policy` of -connect: prefer, require, never or auto")
	if err := f.Parse(args); err != nil {
		return err
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; see -help", f.Arg(0))
	case *connect != "":
		return call(ctx, out, *connect, *size, offload)
	case *listen != "":
		return withServer(out, *listen, func(string) error { <-ctx.Done(); return nil })
	}
	return withServer(out, "127.0.0.1:0", func(address string) error {
		for _, policy := range []iwarp.Offload{iwarp.OffloadRequire, iwarp.OffloadNever} {
			if err := call(ctx, out, address, *size, policy); err != nil {
				return err
			}
		}
		fmt.Fprintln(out, "every stream arrived whole, over both paths")
		return nil
	})
}

// withServer calls f while the service runs, with the address in use.
func withServer(out io.Writer, address string, f func(address string) error) error {
	l, err := listen(address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "serving on %v, to iWARP and plain TCP clients\n", l.Addr())
	stop := serve(out, l)
	return errors.Join(f(l.Addr().String()), stop())
}

// describe tells in words which path a connection took.
func describe(c net.Conn) string {
	info, ok := iwarp.Describe(c)
	switch {
	case !ok:
		return "a connection that is not of package iwarp"
	case info.Reason != iwarp.ReasonNone:
		return fmt.Sprintf("plain TCP (reason: %v)", info.Reason)
	default:
		return fmt.Sprintf("iWARP (transport %s, device %s, offloaded: %t)", info.Transport, info.Device, info.Offloaded)
	}
}
