package shm_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/rdmanet/iwarp"
	_ "github.com/rdmanet/iwarp/transport/shm"
)

// The import is all that it takes: a service whose client is on the same host is reached through
// shared memory. OffloadDevice has this client reach it so or not at all; otherwise iwarp.Dial will
// do.
func Example() {
	lc := iwarp.ListenConfig{Offload: iwarp.OffloadAuto}
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go echoOnce(l)

	d := iwarp.Dialer{Offload: iwarp.OffloadDevice, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello")
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		log.Fatal(err)
	}
	info, _ := iwarp.Describe(c)
	fmt.Println(string(b), "through", info.Transport)
	// Output: hello through shm
}

// echoOnce sends its client what it gets.
func echoOnce(l net.Listener) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.Copy(c, c)
}
