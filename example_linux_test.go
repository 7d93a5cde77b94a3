package iwarp_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/rdmanet/iwarp"
)

// A service takes the socket that systemd holds for it, or else opens its own. Listen finds what
// Inherit has adopted by its address.
func ExamplePortSpace_Inherit() {
	address := "127.0.0.1:0"
	inherited, err := iwarp.DefaultPortSpace.Inherit()
	if err != nil {
		log.Fatal(err)
	}
	if len(inherited) > 0 {
		address = inherited[0].Addr().String()
	}
	l, err := iwarp.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	fmt.Println(len(inherited), "inherited") // as this was not started by systemd
	// Output: 0 inherited
}

// A port is held on some of the host's addresses, where a wildcard would take too much.
func ExamplePortSpace_ReserveEach() {
	set, err := iwarp.DefaultPortSpace.ReserveEach(context.Background(), 0,
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"))
	if err != nil {
		log.Fatal(err)
	}
	defer set.Release()
	for _, r := range set.Members() {
		l, err := iwarp.Listen("tcp", r.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer l.Close()
		at := netip.MustParseAddrPort(l.Addr().String())
		fmt.Println(at.Addr(), at.Port() == set.Port())
	}
	// Output:
	// 127.0.0.1 true
	// 127.0.0.2 true
}
