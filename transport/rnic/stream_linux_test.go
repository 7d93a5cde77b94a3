//go:build amd64 || arm64

package rnic_test

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/rnic"
)

// devices returns the devices of this host. Without one the test is skipped.
func devices(t testing.TB, r *rnic.Transport) []transport.Device {
	t.Helper()
	list, err := r.Devices()
	require.NoError(t, err)
	var with []transport.Device
	for _, d := range list {
		if len(d.Addrs) > 0 {
			with = append(with, d)
		}
	}
	if len(with) == 0 {
		t.Skip("no rdma device here; in a virtual machine with some: go test ./test/kernel -kernel -run Device")
	}
	return with
}

// eachDevice runs a test for each device, on an address of it.
func eachDevice(t *testing.T, test func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr)) {
	r := rnic.New(nil)
	for _, d := range devices(t, r) {
		t.Run(d.Name, func(t *testing.T) { test(t, r, d, d.Addrs[0]) })
	}
}

func listen(t testing.TB, r *rnic.Transport, addr netip.Addr) transport.Listener {
	l, err := r.Listen(limited(t), netip.AddrPortFrom(addr, 0), nil)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestEcho(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		l := listen(t, r, addr)
		c, s, err := transporttest.Streams(limited(t), r, l)
		require.NoError(t, err)
		defer c.Close()
		go func() {
			defer s.Close()
			io.Copy(s, s)
		}()
		for _, n := range []int{1, 5, 64, 4096, 65536, 1 << 20} {
			out := make([]byte, n)
			for i := range out {
				out[i] = byte(i * 7)
			}
			go c.Write(out)
			in := make([]byte, n)
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			_, err := io.ReadFull(c, in)
			require.NoError(t, err, "size %d", n)
			require.Equal(t, out, in)
		}
		require.NoError(t, c.CloseWrite())
		_, err = c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
}

func TestConn(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		transporttest.Conn(t, r, netip.AddrPortFrom(addr, 0))
	})
}
