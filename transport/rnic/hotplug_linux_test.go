//go:build amd64 || arm64

package rnic

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTellsOfDevice(t *testing.T) {
	for message, want := range map[string]bool{
		"add@/devices/virtual/infiniband/rxe0\x00ACTION=add\x00SUBSYSTEM=infiniband\x00NAME=rxe0\x00":          true,
		"add@/devices/virtual/infiniband_verbs/uverbs0\x00ACTION=add\x00SUBSYSTEM=infiniband_verbs\x00":        true,
		"add@/devices/virtual/net/dummy0\x00ACTION=add\x00SUBSYSTEM=net\x00INTERFACE=SUBSYSTEM=infiniband\x00": false,
		"": false,
	} {
		require.Equal(t, want, tellsOfDevice([]byte(message)), message)
	}
}

// TestWatchDevices has nothing of the watch be left once nobody watches.
func TestWatchDevices(t *testing.T) {
	var w watchers
	stop, again := w.add(func() {}), w.add(func() {})
	stop()
	w.mu.Lock()
	f := w.f
	w.mu.Unlock()
	require.NotNil(t, f)
	again()
	stop()
	require.Nil(t, w.f)
	require.Empty(t, w.all)
	require.ErrorIs(t, f.Close(), os.ErrClosed)
	w.add(func() {})()
	require.Nil(t, w.f)
}

// TestPlug has a device that is made be told of at once.
func TestPlug(t *testing.T) {
	const name, netdev, addr = "rxe7", "dummy7", "10.97.0.1"
	ip := func(command ...string) error { return exec.Command(command[0], command[1:]...).Run() }
	r := New(nil)
	if list, err := r.devices.list(); err != nil || len(list) == 0 {
		t.Skip("no rdma device here; in a virtual machine with some: go test ./test/kernel -kernel -run Device")
	}
	require.NoError(t, ip("ip", "link", "add", netdev, "type", "dummy"))
	t.Cleanup(func() { _ = ip("ip", "link", "delete", netdev) })
	require.NoError(t, ip("ip", "addr", "add", addr+"/24", "dev", netdev))
	require.NoError(t, ip("ip", "link", "set", netdev, "up"))
	came := make(chan struct{}, 1)
	stop := r.WatchDevices(func() {
		list, _ := r.devices.list()
		for _, d := range list {
			if d.Name == name && slices.Contains(d.Addrs, netip.MustParseAddr(addr)) && len(came) == 0 {
				came <- struct{}{}
			}
		}
	})
	defer stop()
	began := time.Now()
	if ip("rdma", "link", "add", name, "type", "rxe", "netdev", netdev) != nil {
		t.Skip("the kernel has no rxe")
	}
	t.Cleanup(func() { _ = ip("rdma", "link", "delete", name) })
	select {
	case <-came:
		t.Log("after", time.Since(began))
	case <-time.After(30 * time.Second):
		t.Fatal("it is not told of")
	}
}
