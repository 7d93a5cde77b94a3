//go:build amd64 || arm64

package main

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport/rnic"
)

var (
	windowFlag = flag.String("window", "", "measure with listeners on this `address` of a device, beside an iwarp-portguard that runs")
	triesFlag  = flag.Int("window-tries", 5, "the `number` of these listeners")
)

// TestWindow measures how long after rdma_cm has given a port TCP gets it as well, and how long
// after it is given back TCP does not get it.
func TestWindow(t *testing.T) {
	if *windowFlag == "" {
		t.Skip("only with -window, where a device and an iwarp-portguard are")
	}
	const first = 20_000
	tries := *triesFlag
	addr := netip.MustParseAddr(*windowFlag)
	r := rnic.New(nil)
	var taken, back []time.Duration
	for i := range tries {
		a := netip.AddrPortFrom(addr, uint16(first+i))
		l, err := r.Listen(context.Background(), a, nil)
		require.NoError(t, err)
		taken = append(taken, until(t, a, false))
		require.NoError(t, l.Close())
		back = append(back, until(t, a, true))
	}
	slices.Sort(taken)
	slices.Sort(back)
	t.Logf("%d listeners: port held after %v, median %v, at most %v; given back after %v, median %v, at most %v", tries,
		taken[0], taken[tries/2], taken[tries-1], back[0], back[tries/2], back[tries-1])
}

// until waits until a can be bound or not, to within 10 ms. It hardly ever has the port
// when portguard wants it.
func until(t *testing.T, a netip.AddrPort, free bool) time.Duration {
	t.Helper()
	began := time.Now()
	for tick := time.NewTicker(10 * time.Millisecond); bindable(t, a) != free; <-tick.C {
		require.Less(t, time.Since(began), time.Minute, a)
	}
	return time.Since(began).Round(100 * time.Microsecond)
}

func bindable(t *testing.T, a netip.AddrPort) bool {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()})
	if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
		require.NoError(t, err)
	}
	return err == nil
}
