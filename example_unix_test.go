//go:build unix

package iwarp_test

import (
	"fmt"
	"log"
	"net"

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
