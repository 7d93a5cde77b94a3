package shm_test

import (
	"testing"

	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/shm"
)

func BenchmarkPingPong(b *testing.B) {
	transporttest.PingPong(b, func(t testing.TB, prepare transporttest.Setup) transporttest.Pair {
		return transporttest.Connect(t, shm.New(nil), shm.New(nil), nil, nil, loopback, prepare)
	})
}

// BenchmarkConnect measures both ends of a connection from dial to close.
func BenchmarkConnect(b *testing.B) {
	tr := shm.New(nil)
	l, err := tr.Listen(testContext(b), loopback, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.ReportAllocs()
	for b.Loop() {
		c, s, err := transporttest.Streams(b.Context(), tr, l)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
		_ = s.Close()
	}
}
