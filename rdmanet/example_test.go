package rdmanet_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/netip"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport/soft"
)

// One end exposes memory, the other writes into it, and the stream says when it is there.
func ExampleConn_Expose() {
	ctx := context.Background()
	t := soft.New(nil)
	ln, err := t.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		k, err := t.Dial(ctx, netip.AddrPort{}, netip.MustParseAddrPort(ln.Addr().String()), nil)
		if err != nil {
			log.Fatal(err)
		}
		c, err := rdmanet.Client(ctx, k, nil)
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		// The first byte says that the memory is exposed.
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			log.Fatal(err)
		}
		if _, err := c.WriteAt([]byte("placed"), 1000+5); err != nil {
			log.Fatal(err)
		}
		// Whoever reads this finds the bytes there.
		if _, err := c.Write([]byte{1}); err != nil {
			log.Fatal(err)
		}
		// Reading on, c confirms that it writes no more when the region is closed.
		if _, err := io.Copy(io.Discard, c); err != nil {
			log.Fatal(err)
		}
	}()
	r, err := ln.Accept(ctx)
	if err != nil {
		log.Fatal(err)
	}
	c, err := rdmanet.Server(ctx, r, nil)
	if err != nil {
		log.Fatal(err)
	}
	region, err := c.Expose(1000, 64)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Write([]byte{1}); err != nil {
		log.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", region.Bytes()[5:11])
	if err := region.Close(); err != nil {
		log.Fatal(err)
	}
	c.Close()
	<-done
	// Output: placed
}
