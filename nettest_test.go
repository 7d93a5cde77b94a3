package iwarp_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/rdmanet/iwarp"
)

// TestConn runs the conformance tests of net.Conn on every kind of connection that Dial and Listen
// make of each other.
func TestConn(t *testing.T) {
	for _, tt := range []struct {
		name           string
		client, server iwarp.Offload
	}{
		{name: "soft", client: iwarp.OffloadRequire, server: iwarp.OffloadRequire},
		{name: "plain beside iwarp", client: iwarp.OffloadNever},
		{name: "plain", client: iwarp.OffloadNever, server: iwarp.OffloadNever},
		{name: "auto", client: iwarp.OffloadAuto},
		{name: "prefer", client: iwarp.OffloadPrefer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				lc := iwarp.ListenConfig{Offload: tt.server, FirstByteTimeout: patience, HandshakeTimeout: patience}
				if tt.client != iwarp.OffloadPrefer {
					// A plain client that waits for the server's first byte must not cost that much time.
					lc.FirstByteTimeout = 20 * time.Millisecond
				}
				return pair(t, &lc, &iwarp.Dialer{Offload: tt.client, Timeout: patience})
			})
		})
	}
}

// pair returns the two ends of a connection.
func pair(t *testing.T, lc *iwarp.ListenConfig, d *iwarp.Dialer) (c1, c2 net.Conn, stop func(), err error) {
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		var err error
		c2, err = l.Accept()
		done <- err
	}()
	c1, err = d.Dial("tcp", l.Addr().String())
	if err = errors.Join(err, <-done); err != nil {
		return nil, nil, nil, err
	}
	return c1, c2, func() { _ = c1.Close(); _ = c2.Close() }, nil
}
