package iwarptest

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/rdmanet/iwarp"
)

// patience bounds the calls that a test could otherwise hang in.
const patience = 30 * time.Second

// Listen returns a listener for clients of the path, at a free port of this host. It fails the test
// if there is no such path.
func Listen(t testing.TB, p Path) *iwarp.Listener {
	t.Helper()
	host := p.host()
	if !host.IsValid() {
		t.Fatalf("no path %q here; there are %q", p, Paths())
	}
	l, err := p.ListenConfig().Listen(context.Background(), "tcp", netip.AddrPortFrom(host, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*iwarp.Listener)
}

// Dial connects to addr by way of the path. The other end must be in Accept, or get there: see
// iwarp.Dialer. It fails the test if it cannot connect within half a minute.
func Dial(t testing.TB, p Path, addr net.Addr) net.Conn {
	t.Helper()
	c, err := dial(p, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dial(p Path, addr net.Addr) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.Dialer().DialContext(ctx, addr.Network(), addr.String())
}

// Pair returns the two ends of a connection that takes the path. Over Soft and Plain it runs
// through the kernel, over Shm through memory alone.
func Pair(t testing.TB, p Path) (client, server net.Conn) {
	t.Helper()
	l := Listen(t, p)
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	type accepted struct {
		c   net.Conn
		err error
	}
	done := make(chan accepted, 1)
	go func() {
		c, err := l.Accept()
		done <- accepted{c, err}
	}()
	client, err := dial(p, l.Addr())
	if err != nil {
		_ = l.Close()
	} else {
		t.Cleanup(func() { _ = client.Close() })
	}
	a := <-done
	if a.err == nil {
		t.Cleanup(func() { _ = a.c.Close() })
	}
	switch {
	case err != nil:
		t.Fatal(err)
	case a.err != nil:
		t.Fatal(a.err)
	}
	return client, a.c
}
