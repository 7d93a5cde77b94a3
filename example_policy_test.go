package iwarp_test

import (
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"github.com/rdmanet/iwarp"
)

// One Dialer has a policy for each address: here the database must be reached over iWARP, and
// everything else over plain TCP.
func ExampleDialer_policy() {
	var listeners []net.Listener
	for range 2 {
		l, err := iwarp.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		defer l.Close()
		go server(l)
		listeners = append(listeners, l)
	}
	database, web := listeners[0].Addr().String(), listeners[1].Addr().String()

	d := iwarp.Dialer{
		Timeout: 5 * time.Second,
		Policy: func(address string) iwarp.Offload {
			if address == database {
				return iwarp.OffloadRequire
			}
			return iwarp.OffloadNever
		},
	}
	for _, address := range []string{database, web} {
		c, err := d.Dial("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		info, _ := iwarp.Describe(c)
		fmt.Println(info.Transport)
	}
	// Output:
	// soft
	// tcp
}

// Rules in the environment are for a program that sets no policy. As a rule it is not the program
// that sets them, as here, but whoever starts it.
func ExampleOffload_rules() {
	defer os.Unsetenv("IWARP_OFFLOAD")
	if err := os.Setenv("IWARP_OFFLOAD", "prefer,127.0.0.0/8=never"); err != nil {
		log.Fatal(err)
	}
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go server(l)

	c, err := iwarp.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	info, _ := iwarp.Describe(c)
	fmt.Printf("%s: %v\n", info.Transport, info.Reason)
	// Output: tcp: policy
}
