package rnic_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport/rnic"
)

// The import is all that a program needs to use RDMA devices where there are any. Where they cannot
// be used, this one says what is missing, and goes on over plain TCP.
func Example() {
	c, err := iwarp.Dial("tcp", "server.example:4711")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	tell(c)
	fmt.Fprint(c, "hello")
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		log.Fatal(err)
	}
}

// tell says by which path a connection goes, and what would have it go through a device.
func tell(c net.Conn) {
	info, _ := iwarp.Describe(c)
	log.Printf("%s %s: %v", info.Transport, info.Device, info.Reason)
	var missing *rnic.UnavailableError
	if errors.As(info.Err, &missing) {
		log.Print(missing) // such as a library to install
	}
}
