// Command fileserver serves files over HTTP on one port, to iWARP and to plain TCP clients, and
// fetches them.
//
// Without arguments it does both ends: it makes a file of random content, fetches it through shared
// memory, over iWARP in software and over plain TCP, from the same port, and checks the SHA-256 of
// what arrived.
//
//	fileserver
//	fileserver -file ubuntu.iso
//
// On two hosts:
//
//	fileserver -listen :8080 -dir /srv/files
//	fileserver -connect server:8080 -file ubuntu.iso -save ubuntu.iso
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	_ "github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

type options struct {
	listen  string
	connect string
	dir     string
	file    string
	save    string
	size    int64
	offload iwarp.Offload
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "fileserver:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("fileserver", flag.ContinueOnError)
	f.StringVar(&o.listen, "listen", "", "serve on this `address` until interrupted")
	f.StringVar(&o.connect, "connect", "", "fetch from the server at this `address`")
	f.StringVar(&o.dir, "dir", "", "serve the files of this `directory`")
	f.StringVar(&o.file, "file", "", "serve this `file`; with -connect, fetch it (default random.bin)")
	f.StringVar(&o.save, "save", "", "write what was fetched to this `file`")
	f.Int64Var(&o.size, "size", 128<<20, "`bytes` of the random file that is served where there is no -dir and no -file")
	f.TextVar(&o.offload, "offload", iwarp.OffloadPrefer, "`policy` of -connect: prefer, require, never or auto")
	if err := f.Parse(args); err != nil {
		return err
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; see -help", f.Arg(0))
	case o.connect != "":
		if o.file == "" {
			o.file = randomFile
		}
		return fetch(ctx, out, o.connect, o.file, o.save, &iwarp.Dialer{Offload: o.offload})
	case o.listen != "":
		return serveOnly(ctx, out, o)
	default:
		return bothEnds(ctx, out, o)
	}
}

// serveOnly serves until ctx is done.
func serveOnly(ctx context.Context, out io.Writer, o options) error {
	if o.dir != "" {
		return withServer(out, o.listen, http.Dir(o.dir), func(string) error { <-ctx.Done(); return nil })
	}
	file, cleanUp, err := o.content()
	if err != nil {
		return err
	}
	defer cleanUp()
	fmt.Fprintf(out, "the file is %s\n", file)
	return withServer(out, o.listen, oneFile(file), func(string) error { <-ctx.Done(); return nil })
}

// bothEnds serves a file, and fetches it on each path from the same port.
func bothEnds(ctx context.Context, out io.Writer, o options) error {
	file, cleanUp, err := o.content()
	if err != nil {
		return err
	}
	defer cleanUp()
	return withServer(out, "127.0.0.1:0", oneFile(file), func(address string) error {
		for _, d := range []iwarp.Dialer{
			{Offload: iwarp.OffloadRequire}, // shared memory, where there is such a thing
			{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{soft.New(nil)}},
			{Offload: iwarp.OffloadNever},
		} {
			if err := fetch(ctx, out, address, filepath.Base(file), o.save, &d); err != nil {
				return err
			}
		}
		fmt.Fprintln(out, "the same file, whole, over all paths")
		return nil
	})
}

// withServer calls f while files are served, with the address in use.
func withServer(out io.Writer, address string, files http.FileSystem, f func(address string) error) error {
	l, err := iwarp.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "serving on %v, to iWARP and plain TCP clients\n", l.Addr())
	stop := serve(out, l, files)
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
