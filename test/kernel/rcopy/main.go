// Rcopy speaks the protocol of librdmacm's rcopy over package iwarp, to be its peer in tests: the
// client tells the name of a file, its length and its bytes, and each step is answered.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("rcopy: ")
	listen := flag.String("l", "", "`address` and port to take one file on")
	dial := flag.String("c", "", "`address` and port to send a file to")
	source := flag.String("from", "", "`file` to send")
	target := flag.String("to", "", "`file` to write at the server")
	crc := flag.Bool("crc", true, "ask for CRC32C on the connection")
	revision := flag.Int("mpa", 2, "MPA `revision`")
	limit := flag.Duration("d", time.Minute, "limit for the whole run")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	over := []transport.Transport{soft.New(&soft.Config{NoCRC: !*crc, AlwaysCRC: *crc, Revision: *revision})}
	var err error
	if *dial != "" {
		err = send(ctx, &iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: over}, *dial, *source, *target)
	} else {
		err = take(ctx, &iwarp.ListenConfig{Offload: iwarp.OffloadRequire, Transports: over}, *listen)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func send(ctx context.Context, d *iwarp.Dialer, addr, source, target string) error {
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	p, err := newPeer(ctx, conn)
	if err != nil {
		return err
	}
	const mode = 0o644
	// The name ends with a NUL and fills whole words.
	name := append([]byte(target), make([]byte, 8-len(target)%8)...)
	if err := p.ask(header{command: cmdOpen, data: mode}, name, nil); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := p.ask(header{command: cmdWrite}, binary.NativeEndian.AppendUint64(nil, uint64(len(data))), data); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := p.ask(header{command: cmdClose}, nil, nil); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	fmt.Printf("%d bytes sent\n", len(data))
	return nil
}

func take(ctx context.Context, lc *iwarp.ListenConfig, addr string) error {
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	log.Printf("listening on %s", ln.Addr())
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	p, err := newPeer(ctx, conn)
	if err != nil {
		return err
	}
	var file *os.File
	for {
		h, rest, err := p.hear()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch h.command {
		case cmdOpen:
			if file, err = os.Create(rest.text()); err != nil {
				return p.answer(h, syscall.EACCES)
			}
			defer file.Close()
		case cmdWrite:
			n, err := io.CopyN(file, conn, rest.number())
			if err != nil {
				return fmt.Errorf("after %d bytes: %w", n, err)
			}
			fmt.Printf("%d bytes received\n", n)
		case cmdClose:
			if err := file.Close(); err != nil {
				return err
			}
		default:
			return errors.Join(fmt.Errorf("command %d", h.command), p.answer(h, syscall.EINVAL))
		}
		if err := p.answer(h, 0); err != nil {
			return err
		}
	}
}
