//go:build amd64 || arm64

package rnic

import (
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/nldev"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// liveQueuePair is one of which no device has anything.
func liveQueuePair() *queuePair {
	q := &queuePair{dev: &device{}, remains: remainsNone, state: transport.StateRTS}
	return q
}

// TestAsyncEvents has events of a device end the connections that they are about, and no others,
// with an error that says so.
func TestAsyncEvents(t *testing.T) {
	dev := abi.Device{Name: [64]byte{'n', 'o', 'n', 'e', '7'}}
	context := abi.Context{Device: ptr(&dev)}
	defer runtime.KeepAlive(&context)
	for _, c := range []struct {
		name    string
		kind    uint32
		object  uintptr
		one     string // what the queue pair at 1 ends with
		two     string // and the one at 2
		changes bool   // lists of devices are out of date
	}{
		{name: "fatal", kind: abi.EventDeviceFatal, one: "rdma device has failed", two: "rdma device has failed", changes: true},
		{name: "queue pair", kind: abi.EventQPFatal, object: 1, one: "rdma connection is broken: device reports an error of the queue pair"},
		{name: "request", kind: abi.EventQPReqErr, object: 2, two: "rdma connection is broken: device reports an invalid request of the peer"},
		{name: "access", kind: abi.EventQPAccessErr, object: 1, one: "rdma connection is broken: device reports a violation of access rights by the peer"},
		{name: "completion queue", kind: abi.EventCQErr, object: 3, one: "rdma connection is broken: device reports an error of the completion queue"},
		{name: "of one that has gone", kind: abi.EventQPFatal, object: 77},
		{name: "established", kind: abi.EventCommEst, object: 1},
		{name: "port down", kind: abi.EventPortErr, object: 1, changes: true},
		{name: "port up", kind: abi.EventPortActive, object: 1, changes: true},
		{name: "newer", kind: 99, object: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			one, two := liveQueuePair(), liveQueuePair()
			w := &watch{context: ptr(&context), objects: make(map[uintptr]*queuePair)}
			w.add(1, one)
			w.add(2, two)
			w.add(3, one)
			before := changes.Load()
			w.event(c.kind, c.object)()
			for q, want := range map[*queuePair]string{one: c.one, two: c.two} {
				if want == "" {
					require.NoError(t, q.Err())
					require.Equal(t, transport.StateRTS, q.State())
					continue
				}
				require.EqualError(t, q.Err(), want)
				require.ErrorIs(t, q.Err(), syscall.ECONNRESET)
				require.Equal(t, transport.StateError, q.State())
			}
			require.Equal(t, c.changes, changes.Load() != before)
			w.remove(1)
			w.event(abi.EventQPFatal, 1)()
		})
	}
	q := liveQueuePair()
	q.noteEnd(transport.StateError, io.EOF)
	q.broke(errFailed)
	require.Equal(t, io.EOF, q.Err(), "the first reason counts")
	require.ErrorIs(t, errFailed, transport.ErrNoDevice)
	var none *watch
	none.add(1, q)
	none.remove(1)
	none.stop()
}

// TestFailedDevice is on no list, until it was made anew.
func TestFailedDevice(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	link := nldev.Link{Device: "hw0", Index: 1 << 30, Chardev: "uverbs9", Node: nldev.NodeCA, State: nldev.PortActive}
	require.NotNil(t, newDevice(&link))
	failed.Lock()
	failed.m = map[uint32]bool{link.Index: true}
	failed.Unlock()
	t.Cleanup(func() {
		failed.Lock()
		failed.m = nil
		failed.Unlock()
	})
	require.Nil(t, newDevice(&link))
	link.Index++
	require.NotNil(t, newDevice(&link))
	link.State = nldev.PortDown
	require.Nil(t, newDevice(&link))
	addrs, err := lo.Addrs()
	require.NoError(t, err)
	alone := !slices.ContainsFunc(addrs, func(a net.Addr) bool { return !a.(*net.IPNet).IP.IsLoopback() })
	link.State, link.NetDevIndex = nldev.PortActive, uint32(lo.Index)
	require.Equal(t, alone, newDevice(&link) == nil, "it has loopback addresses alone: %v", alone)
}

// TestPortEvents has a device leave and enter the list with its port, at once while an ID is on it.
func TestPortEvents(t *testing.T) {
	r := New(nil)
	list, err := r.devices.list()
	require.NoError(t, err)
	for _, d := range list {
		if d.NetDev != "dummy0" {
			continue
		}
		l, err := r.Listen(t.Context(), netip.AddrPortFrom(d.Addrs[0], 0), nil)
		require.NoError(t, err)
		defer l.Close()
		has := func() bool {
			r.devices.mu.Lock()
			r.devices.until = time.Now().Add(time.Hour) // so that only an event ends it
			r.devices.mu.Unlock()
			list, err := r.devices.list()
			require.NoError(t, err)
			for _, x := range list {
				if x.Name == d.Name {
					return true
				}
			}
			return false
		}
		require.True(t, has())
		t.Cleanup(func() { _ = exec.Command("ip", "link", "set", d.NetDev, "up").Run() })
		for _, state := range []string{"down", "up"} {
			require.NoError(t, exec.Command("ip", "link", "set", d.NetDev, state).Run())
			require.Eventually(t, func() bool { return has() == (state == "up") }, time.Minute, 10*time.Millisecond, state)
		}
		return
	}
	t.Skip("no device on dummy0; in a virtual machine with one: go test ./test/kernel -kernel -run Device")
}
