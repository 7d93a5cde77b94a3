package soft_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/soft"
)

func TestMain(m *testing.M) { leak.Main(m) }

const limit = transporttest.Limit

var (
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
	p := transporttest.Connect(t, soft.New(nil), soft.New(nil), ao, bo, transporttest.Loopback, prepare)
	return pair{p.A, p.B}
}

func TestVerbs(t *testing.T) {
	for name, o := range map[string]struct {
		a, b    *transport.Options
		segment int
		crc     bool
	}{
		"crc by default":       {crc: true},
		"crc asked for by one": {a: &transport.Options{NoCRC: true}, crc: true},
		"no crc":               {a: &transport.Options{NoCRC: true}, b: &transport.Options{NoCRC: true}},
		"large segments":       {segment: 32 << 10, crc: true},
		"largest segments":     {segment: 65544, crc: true},
	} {
		t.Run(name, func(t *testing.T) {
			transporttest.Verbs(t, func(t testing.TB, prepare transporttest.Setup) transporttest.Pair {
				p := transporttest.Connect(t, soft.New(nil), soft.New(nil), o.a, o.b, transporttest.Loopback, prepare)
				for _, q := range []transport.QueuePair{p.A, p.B} {
					require.Equal(t, o.crc, q.Attributes().CRC)
					if o.segment > 0 {
						require.NoError(t, q.SetMaxSegment(o.segment))
					}
				}
				return p
			})
		})
	}
}
