package rdmanet_test

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

// TestNetConn runs the suite that every net.Conn must pass, in both roles.
func TestNetConn(t *testing.T) {
	for _, s := range settings {
		for _, swap := range []bool{false, true} {
			name := s.name + "/active first"
			if swap {
				name = s.name + "/passive first"
			}
			t.Run(name, func(t *testing.T) {
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					e, err := tryConnect(t, s)
					if err != nil {
						return nil, nil, nil, err
					}
					stop = func() {
						e.a.Close()
						e.b.Close()
					}
					if swap {
						return e.b, e.a, stop, nil
					}
					return e.a, e.b, stop, nil
				})
			})
		}
	}
}
