package soft_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/soft"
)

func BenchmarkPingPong(b *testing.B) {
	transporttest.PingPong(b, func(t testing.TB, prepare transporttest.Setup) transporttest.Pair {
		p := transporttest.Connect(t, soft.New(nil), soft.New(nil), nil, nil, transporttest.Loopback, prepare)
		for _, q := range []transport.QueuePair{p.A, p.B} {
			require.NoError(t, q.SetMaxSegment(32788))
		}
		return p
	})
}
