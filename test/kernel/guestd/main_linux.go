// Guestd is the first program of a test in the virtual machine: it runs there what the test asks
// for.
package main

import (
	"flag"
	"log"
	"net"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

func main() {
	addr := flag.String("listen", "10.0.2.15:7000", "address to take commands on")
	flag.Parse()
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s", ln.Addr())
	log.Fatal(agent.Serve(ln))
}
