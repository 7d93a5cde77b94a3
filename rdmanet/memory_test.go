package rdmanet_test

import (
	"bytes"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// connectDevices connects two devices.
func connectDevices(t *testing.T) (e ends, a, b *device) {
	n := prepare(t, setting{device: true}, nil)
	a = n.k.QueuePair().(*device)
	accept := n.accept
	n.accept = func() (transport.Request, error) {
		r, err := accept()
		if err == nil {
			b = r.QueuePair().(*device)
		}
		return r, err
	}
	return connectBelow(t, n, setting{}), a, b
}

// Two regions are enough, and the peer can write to one of them only. Close gives both back at
// once.
func TestDeviceMemoryIsGivenBack(t *testing.T) {
	e, a, b := connectDevices(t)
	require.Equal(t, []transport.Access{transport.RemoteWrite | transport.CallerDriven, transport.LocalWrite}, a.access)
	want := pattern(200 << 10)
	wait := background(t, func() {
		if _, err := e.a.Write(want); err != nil {
			t.Error(err)
		}
		if err := e.a.Close(); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(e.b)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "what was on the stage at Close is lost")
	wait()
	require.Zero(t, a.regions.Load())
	require.GreaterOrEqual(t, b.regions.Load(), int32(2), "the end that is not closed keeps its memory")
	require.NoError(t, e.b.Close())
	require.Zero(t, b.regions.Load())
}

// A call that is still copying when the connection is closed gives the memory back itself.
func TestCloseWaitsForNobodyWhoCopies(t *testing.T) {
	e, _, b := connectDevices(t)
	want := pattern(10000)
	_, err := e.a.Write(want)
	require.NoError(t, err)
	w := &slowWriter{begun: make(chan struct{}), proceed: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		_, err := e.b.WriteTo(w)
		done <- err
	}()
	<-w.begun
	require.NoError(t, e.b.Close())
	require.Zero(t, b.regions.Load(), "the Writer has a copy")
	close(w.proceed)
	within(t, func() error { return <-done })
	require.True(t, bytes.HasPrefix(want, w.got.Bytes()))
	require.NotZero(t, w.got.Len())
	require.Zero(t, b.regions.Load())
}

type slowWriter struct {
	begun, proceed chan struct{}
	once           sync.Once
	got            bytes.Buffer
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.begun) })
	<-w.proceed
	return w.got.Write(p) // the pages of p are still there
}

// Whatever goes wrong while a connection is made, its memory comes back.
func TestFailedSetupGivesMemoryBack(t *testing.T) {
	n := prepare(t, setting{device: true}, nil)
	d := n.k.QueuePair().(*device)
	done := make(chan error, 1)
	go func() {
		_, err := rdmanet.Client(testContext(t), n.k, nil)
		done <- err
	}()
	r, err := n.accept()
	require.NoError(t, err)
	require.NoError(t, r.Reject(nil))
	require.Error(t, <-done)
	require.Len(t, d.access, 2)
	require.Zero(t, d.regions.Load())
}
