//go:build amd64 || arm64

package rnic_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic"
)

// command runs a program, and does not wait for one that hangs.
func command(t *testing.T, args ...string) (out string, took time.Duration, err error) {
	t.Helper()
	begin := time.Now()
	c := exec.CommandContext(t.Context(), args[0], args[1:]...)
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := c.CombinedOutput()
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		return strings.TrimSpace(string(r.out)), time.Since(begin), r.err
	case <-time.After(limit):
		return "", time.Since(begin), errors.New("does not come to its end")
	}
}

// unplugging needs the privilege, and a device that can be made again.
func unplugging(t *testing.T, d transport.Device) (kind string) {
	if os.Getenv("IWARP_UNPLUG") == "" {
		t.Skip("it deletes the devices: IWARP_UNPLUG=1, in a virtual machine")
	}
	if d.IWARP {
		return "siw"
	}
	return "rxe"
}

// traffic sends both ways until the connection ends, and reports the ends.
func traffic(p pair) <-chan error {
	ends := make(chan error, 2)
	for _, q := range []transport.QueuePair{p.a, p.b} {
		go func() {
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					_, err := q.PostSend([]transport.SendWR{{Opcode: transport.OpWrite}})
					if errors.Is(err, transport.ErrQueueFull) {
						err = q.Drain(time.Time{})
					}
					if err != nil {
						return
					}
				}
			})
			var wc [4]transport.Completion
			var err error
			for err == nil {
				if q.Poll(wc[:]) == 0 {
					err = q.Wait(time.Time{})
				}
			}
			wg.Wait()
			ends <- err
		}()
	}
	return ends
}

func TestUnplug(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		kind := unplugging(t, d)
		p := connect(t, r, addr, nil, func(transport.QueuePair) {})
		idle := connect(t, r, addr, nil, func(transport.QueuePair) {})
		bound := listen(t, r, addr)
		every, err := r.Listen(t.Context(), netip.MustParseAddrPort("0.0.0.0:0"), nil)
		require.NoError(t, err)
		defer every.Close()
		half, err := r.Dial(limited(t), netip.AddrPort{}, bound.Addr(), nil)
		require.NoError(t, err)
		accepts := make(chan error, 1)
		go func() {
			_, err := bound.Accept(t.Context())
			accepts <- err
		}()
		ends := traffic(p)

		unplugged := make(chan struct{})
		go func() {
			defer close(unplugged)
			out, took, err := command(t, "rdma", "link", "delete", d.Name)
			t.Log("rdma link delete: ", out, err, took)
			if err != nil {
				t.Error(err)
			}
		}()
		begin := time.Now()
		for range 2 {
			select {
			case err := <-ends:
				t.Log("traffic ended: ", err, time.Since(begin))
				if !errors.Is(err, transport.ErrNoDevice) && p.a.Err() == nil {
					t.Error(err)
				}
			case <-time.After(limit):
				t.Fatal("traffic goes on")
			}
		}
		require.Error(t, idle.a.Wait(soon()))
		t.Log("idle: ", idle.a.Err())
		select {
		case err := <-accepts:
			t.Log("accept: ", err)
			require.ErrorIs(t, err, transport.ErrNoDevice)
		case <-time.After(limit):
			t.Error("Accept goes on")
		}
		_, err = half.Connect(limited(t), nil)
		require.Error(t, err)
		t.Log("connect: ", err)
		for _, q := range []transport.QueuePair{p.a, p.b, idle.a, idle.b, half.QueuePair()} {
			_ = q.Close()
			gone(t, q)
		}
		select {
		case <-unplugged:
		case <-time.After(limit):
			t.Error("rdma link delete hangs")
		}
		time.Sleep(1100 * time.Millisecond) // the list of devices is that old at most
		list, err := r.Devices()
		require.NoError(t, err)
		for _, o := range list {
			require.NotEqual(t, d.Name, o.Name)
		}
		_, err = r.Dial(limited(t), netip.AddrPort{}, netip.AddrPortFrom(addr, 80), nil)
		t.Log("dial: ", err)
		require.True(t, errors.Is(err, transport.ErrNoDevice) || errors.Is(err, transport.ErrNoRoute), err)

		out, _, err := command(t, "rdma", "link", "add", d.Name, "type", kind, "netdev", d.NetDev)
		require.NoError(t, err, out)
		require.Eventually(t, func() bool {
			_, err := r.Route(limited(t), netip.AddrPort{}, netip.AddrPortFrom(addr, 80))
			return err == nil
		}, limit, 50*time.Millisecond)
		again := connect(t, r, addr, nil, func(q transport.QueuePair) { posted(t, q) })
		post(t, again.a, transport.SendWR{Flags: transport.Inline, Data: []byte("again")})
		require.Equal(t, 5, next(t, again.b).Bytes)
		require.NoError(t, dial(t, r, every, addr), "a listener for all devices has the new one")
	})
}

// The kernel does not let go of a driver that is in use.
func TestRemoveModule(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		kind := unplugging(t, d)
		module := map[string]string{"siw": "siw", "rxe": "rdma_rxe"}[kind]
		p := connect(t, r, addr, nil, func(q transport.QueuePair) { posted(t, q) })
		out, took, err := command(t, "rmmod", module)
		t.Log("rmmod: ", out, err, took)
		if err == nil {
			t.Skip("it went")
		}
		post(t, p.a, transport.SendWR{Flags: transport.Inline, Data: []byte("still")})
		require.Equal(t, 5, next(t, p.b).Bytes)
	})
}

// TestLinkDown is the last one, also by the name of the file, as rxe does not recover from it.
func TestLinkDown(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		unplugging(t, d)
		p := connect(t, r, addr, nil, func(transport.QueuePair) {})
		ends := traffic(p)
		out, took, err := command(t, "ip", "link", "set", d.NetDev, "down")
		require.NoError(t, err, out)
		t.Log("down: ", took)
		time.Sleep(1100 * time.Millisecond)
		list, err := r.Devices()
		require.NoError(t, err)
		for _, o := range list {
			require.NotEqual(t, d.Name, o.Name)
		}
		_, err = r.Dial(limited(t), netip.AddrPort{}, netip.AddrPortFrom(addr, 80), nil)
		t.Log("dial: ", err)
		require.True(t, errors.Is(err, transport.ErrNoDevice) || errors.Is(err, transport.ErrNoRoute), err)
		select {
		case err := <-ends:
			t.Log("traffic ended: ", err)
		case <-time.After(2 * time.Second):
			t.Log("traffic to this host itself goes on")
		}
		require.NoError(t, p.a.Abort())
		require.NoError(t, p.b.Abort())
		gone(t, p.a)
		gone(t, p.b)
		out, _, err = command(t, "ip", "link", "set", d.NetDev, "up")
		require.NoError(t, err, out)
		require.Eventually(t, func() bool {
			_, err := r.Route(limited(t), netip.AddrPort{}, netip.AddrPortFrom(addr, 80))
			return err == nil
		}, limit, 50*time.Millisecond)
		if !d.IWARP {
			t.Skip("rxe of Linux 6.1 gets no connection request through after one was ended while its interface was down")
		}
		again := connect(t, r, addr, nil, func(q transport.QueuePair) { posted(t, q) })
		post(t, again.a, transport.SendWR{Flags: transport.Inline, Data: []byte("again")})
		require.Equal(t, 5, next(t, again.b).Bytes)
	})
}
