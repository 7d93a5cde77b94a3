//go:build unix

package iwarp_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/rdmanet/iwarp"
)

// A server that reloads in one process, as Caddy does, opens the new listener before it closes the
// old one. Both have one socket, so no client is refused. A function like listen is what
// caddy.RegisterNetwork wants; with tableflip, or activation.Listeners of go-systemd, call Wrap for
// what they return.
func ExampleListenConfig_Wrap() {
	lc := iwarp.ListenConfig{}
	open := make(map[string]*iwarp.Listener) // by address; guard it by a mutex
	listen := func(ctx context.Context, address string) (net.Listener, error) {
		if old := open[address]; old != nil {
			if f, err := old.File(); err == nil { // else it is closed
				defer f.Close()
				inner, err := net.FileListener(f)
				if err != nil {
					return nil, err
				}
				l, err := lc.Wrap(inner.(*net.TCPListener))
				if err != nil {
					_ = inner.Close()
					return nil, err
				}
				open[address] = l
				return l, nil
			}
		}
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		open[address] = l.(*iwarp.Listener)
		return l, nil
	}

	first, err := listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	second, err := listen(context.Background(), "127.0.0.1:0") // the reload
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	_ = first.Close()
	fmt.Println(first.Addr().String() == second.Addr().String())
	// Output: true
}
