package shm_test

import (
	"testing"

	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/shm"
)

func TestMain(m *testing.M) {
	if runAsChild() {
		return
	}
	leak.Main(m)
}

const limit = transporttest.Limit

var (
	loopback    = transporttest.Loopback
	noDeadline  = transporttest.NoDeadline
	soon        = transporttest.Soon
	testContext = transporttest.Context
	register    = transporttest.Register
	receives    = transporttest.Receives
	next        = transporttest.Next
	finish      = transporttest.Finish
	post        = transporttest.Post
	random      = transporttest.Random
)

// A pair is two connected ends: the active one, a, and the passive one, b.
type pair struct{ a, b transport.QueuePair }

func connect(t testing.TB, ao, bo *transport.Options, prepare transporttest.Setup) pair {
	t.Helper()
	return connectWith(t, shm.New(nil), shm.New(nil), ao, bo, prepare)
}

func connectWith(t testing.TB, at, bt *shm.Transport, ao, bo *transport.Options, prepare transporttest.Setup) pair {
	t.Helper()
	p := transporttest.Connect(t, at, bt, ao, bo, loopback, prepare)
	return pair{p.A, p.B}
}

func TestVerbs(t *testing.T) {
	transporttest.Verbs(t, func(t testing.TB, prepare transporttest.Setup) transporttest.Pair {
		return transporttest.Connect(t, shm.New(nil), shm.New(nil), nil, nil, loopback, prepare)
	})
}
