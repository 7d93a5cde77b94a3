package iwarpotel_test

import (
	"io"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	iwarpotel "github.com/rdmanet/iwarp/metrics/otel"
)

func TestMain(m *testing.M) {
	os.Unsetenv("IWARP_OFFLOAD") // which would change the policies
	os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	leak.Main(m)
}

// collect returns all values, by name and attributes.
func collect(t *testing.T, r sdk.Reader) map[string]float64 {
	var rm metricdata.ResourceMetrics
	require.NoError(t, r.Collect(t.Context(), &rm))
	values := make(map[string]float64)
	for _, s := range rm.ScopeMetrics {
		for _, m := range s.Metrics {
			require.Regexp(t, regexp.MustCompile(`^iwarp(\.[a-z]+)+$`), m.Name)
			require.NotEmpty(t, m.Description, m.Name)
			require.NotEmpty(t, m.Unit, m.Name)
			for _, p := range m.Data.(metricdata.Sum[float64]).DataPoints {
				key := m.Name + "{" + p.Attributes.Encoded(attribute.DefaultEncoder()) + "}"
				require.NotContains(t, values, key)
				values[key] = p.Value
			}
		}
	}
	return values
}

func TestRegister(t *testing.T) {
	reader := sdk.NewManualReader()
	p := sdk.NewMeterProvider(sdk.WithReader(reader))
	defer func() { require.NoError(t, p.Shutdown(t.Context())) }()
	registration, err := iwarpotel.Register(p)
	require.NoError(t, err)
	before := collect(t, reader)

	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	accepted := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			_, err = io.Copy(c, c)
		}
		accepted <- err
	}()
	c, err := (&iwarp.Dialer{Offload: iwarp.OffloadRequire}).Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("hello"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 5))
	require.NoError(t, err)

	during := collect(t, reader)
	require.NoError(t, c.Close())
	require.NoError(t, <-accepted)
	require.Len(t, during, len(before), "no series comes or goes")
	for name, more := range map[string]float64{
		"iwarp.connection.count{iwarp.path=soft,iwarp.state=established}":                   2,
		"iwarp.connection.fallback{iwarp.reason=policy}":                                    0,
		"iwarp.listener.clients{iwarp.outcome=iwarp}":                                       1,
		"iwarp.listener.silent{}":                                                           0,
		"iwarp.setup.count{iwarp.direction=dial,iwarp.path=soft,iwarp.reason=none}":         1,
		"iwarp.setup.timed{iwarp.direction=accept,iwarp.kind=rdma}":                         1,
		"iwarp.stream.io{iwarp.path=soft,network.io.direction=receive}":                     10,
		"iwarp.stream.io{iwarp.path=soft,network.io.direction=transmit}":                    10,
		"iwarp.terminate.count{iwarp.path=soft,network.io.direction=transmit}":              0,
		"iwarp.setup.failures{iwarp.direction=dial,iwarp.reason=peer does not speak iwarp}": 0,
	} {
		require.Contains(t, during, name)
		require.Equal(t, more, during[name]-before[name], name)
	}
	const took = "iwarp.setup.time{iwarp.direction=dial,iwarp.kind=rdma}"
	require.Greater(t, during[took], before[took])

	require.NoError(t, registration.Unregister())
	require.Empty(t, collect(t, reader))
}

func TestNoop(t *testing.T) {
	registration, err := iwarpotel.Register(noop.NewMeterProvider())
	require.NoError(t, err)
	require.NoError(t, registration.Unregister())
}
