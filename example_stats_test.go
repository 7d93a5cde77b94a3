package iwarp_test

import (
	"fmt"
	"io"
	"log"
	"time"

	"github.com/rdmanet/iwarp"
)

// Stats has what Describe tells as well.
func ExampleStats() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go server(l)

	d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello")
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		log.Fatal(err)
	}
	s, ok := iwarp.Stats(c)
	if !ok {
		log.Fatal("not a connection of package iwarp")
	}
	fmt.Printf("%s: %d bytes out, %d in\n", s.Transport, s.BytesOut, s.BytesIn)
	// Output: soft: 5 bytes out, 5 in
}

// A Listener counts what its clients speak.
func ExampleListener_Stats() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go server(l)

	for _, policy := range []iwarp.Offload{iwarp.OffloadRequire, iwarp.OffloadNever, iwarp.OffloadNever} {
		d := iwarp.Dialer{Offload: policy, Timeout: 5 * time.Second}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // the listener knows by then
			log.Fatal(err)
		}
	}
	s := l.(*iwarp.Listener).Stats()
	fmt.Printf("%d by iWARP, %d by plain TCP\n", s.IWARP, s.PlainTCP)
	// Output: 1 by iWARP, 2 by plain TCP
}

// A service that is to use iWARP looks for connections that do not, and tells why.
func ExampleSnapshot() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go server(l)

	d := iwarp.Dialer{Offload: iwarp.OffloadNever, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for _, s := range iwarp.Snapshot().Conns {
		if s.Remote.String() == l.Addr().String() && s.Reason != iwarp.ReasonNone {
			fmt.Printf("%s: %v\n", s.Transport, s.Reason)
		}
	}
	// Output: tcp: policy
}
