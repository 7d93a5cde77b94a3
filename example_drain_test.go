package iwarp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/rdmanet/iwarp"
)

// A server that ends without losing a client: Drain takes those that have connected, Accept goes on
// to return them, and only then comes net.ErrClosed.
func ExampleListener_Drain() {
	nl, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l := nl.(*iwarp.Listener)
	client, err := net.Dial("tcp", l.Addr().String()) // waits in the kernel's queue
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Fprint(client, "hello")

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.Drain(ctx); err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(b))
	}
	fmt.Println("all are served")
	_ = l.Close()
	// Output:
	// hello
	// all are served
}
