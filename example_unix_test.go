//go:build unix

package iwarp_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/rdmanet/iwarp"
)

// A server that hands its sockets over itself, as CoreDNS does when it reloads, makes a listener of
// package net of what File returns. Wrap makes a Listener of that again, with the clients that
// wait; so it does of what tableflip, or activation.Listeners of go-systemd, return.
func ExampleListenConfig_Wrap() {
	old, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	f, err := old.(*iwarp.Listener).File()
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.FileListener(f)
	_ = f.Close()
	if err != nil {
		log.Fatal(err)
	}

	lc := iwarp.ListenConfig{}
	l, err := lc.Wrap(inner.(*net.TCPListener))
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	_ = old.Close() // both have one socket, so no client is refused
	fmt.Println(old.Addr().String() == l.Addr().String())
	// Output: true
}

// A process hands its port over to another, and no client is refused in between: the new one adopts
// the socket, the old one drains. Here both are one process. Otherwise the file goes to the new one
// by the ExtraFiles of an exec.Cmd, and that one says when it listens.
func ExampleListener_File() {
	nl, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	old := nl.(*iwarp.Listener)
	f, err := old.File()
	if err != nil {
		log.Fatal(err)
	}

	// In the new process, where it is DefaultPortSpace:
	var ports iwarp.PortSpace
	r, err := ports.Adopt(f)
	_ = f.Close() // Adopt has a copy
	if err != nil {
		log.Fatal(err)
	}
	lc := iwarp.ListenConfig{PortSpace: &ports}
	l, err := lc.Listen(context.Background(), "tcp", r.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go server(l)

	// In the old one, while Accept goes on until net.ErrClosed:
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := old.Drain(ctx); err != nil {
		log.Fatal(err)
	}
	_ = old.Close()

	d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", old.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	info, _ := iwarp.Describe(c)
	fmt.Println("the new one serves", info.Transport)
	// Output: the new one serves soft
}
