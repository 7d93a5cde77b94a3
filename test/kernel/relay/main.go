// Relay joins each connection on one side to one of its own on the other: one side is plain TCP,
// the other iWARP over package iwarp. So programs that know nothing of either meet programs on
// rsockets. Both ends' finishing is passed on.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net"
	"time"

	"github.com/rdmanet/iwarp"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("relay: ")
	listen := flag.String("l", "", "`address` and port to listen on")
	target := flag.String("to", "", "`address` and port to connect to")
	reverse := flag.Bool("reverse", false, "listen for plain TCP and connect by iWARP, not the other way round")
	limit := flag.Duration("d", time.Minute, "limit for the whole run")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	in, out := iwarp.OffloadRequire, iwarp.OffloadNever
	if *reverse {
		in, out = out, in
	}
	ln, err := (&iwarp.ListenConfig{Offload: in}).Listen(ctx, "tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s", ln.Addr())
	d := iwarp.Dialer{Offload: out}
	for {
		a, err := ln.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer a.Close()
			b, err := d.DialContext(ctx, "tcp", *target)
			if err != nil {
				log.Print(err)
				return
			}
			defer b.Close()
			log.Print(errors.Join(join(a, b)...))
		}()
	}
}

// join copies both ways until both have ended.
func join(a, b net.Conn) []error {
	ended := make(chan error)
	pass := func(to, from net.Conn) {
		n, err := io.Copy(to, from)
		log.Printf("%d bytes", n)
		ended <- errors.Join(err, to.(interface{ CloseWrite() error }).CloseWrite())
	}
	go pass(a, b)
	go pass(b, a)
	return []error{<-ended, <-ended}
}
