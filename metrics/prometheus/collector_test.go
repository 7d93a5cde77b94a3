package iwarpprom_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	iwarpprom "github.com/rdmanet/iwarp/metrics/prometheus"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

func TestMain(m *testing.M) {
	os.Unsetenv("IWARP_OFFLOAD") // which would change the policies
	os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	leak.Main(m)
}

func TestLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(iwarpprom.NewCollector())
	require.NoError(t, err)
	require.Empty(t, problems)
}

// gather returns the values of all series, by name and labels as Prometheus writes them.
func gather(t *testing.T) map[string]float64 {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(iwarpprom.NewCollector())
	families, err := r.Gather()
	require.NoError(t, err)
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName() + labels(m)
			switch {
			case m.Gauge != nil:
				values[name] = m.GetGauge().GetValue()
			case m.Counter != nil:
				values[name] = m.GetCounter().GetValue()
			default:
				values[name] = float64(m.GetHistogram().GetSampleCount())
				require.Len(t, m.GetHistogram().GetBucket(), 10)
			}
		}
	}
	return values
}

func labels(m *dto.Metric) string {
	var list []string
	for _, l := range m.GetLabel() {
		list = append(list, l.GetName()+"="+l.GetValue())
	}
	return "{" + strings.Join(list, ",") + "}"
}

// meet returns both ends of a connection.
func meet(t *testing.T, lc iwarp.ListenConfig, d iwarp.Dialer) (client, server net.Conn) {
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	client, err = d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	_, err = client.Write([]byte("hello"))
	require.NoError(t, err)
	server = <-accepted
	require.NotNil(t, server)
	t.Cleanup(func() { server.Close() })
	_, err = io.ReadFull(server, make([]byte, 5))
	require.NoError(t, err)
	return client, server
}

func TestCollect(t *testing.T) {
	for _, c := range []struct {
		path, reason string
		policy       iwarp.Offload
		by           transport.Transport
	}{
		{"tcp", "policy", iwarp.OffloadNever, nil},
		{"soft", "none", iwarp.OffloadRequire, soft.New(nil)},
		{"shm", "none", iwarp.OffloadRequire, shm.New(nil)},
	} {
		t.Run(c.path, func(t *testing.T) {
			if c.path == "shm" && runtime.GOOS != "linux" {
				t.Skip("shared memory needs Linux")
			}
			before := gather(t)
			var transports []transport.Transport
			if c.by != nil {
				transports = []transport.Transport{c.by}
			}
			client, server := meet(t, iwarp.ListenConfig{Offload: c.policy, Transports: transports}, iwarp.Dialer{Offload: c.policy, Transports: transports})
			during := gather(t)
			more := func(after map[string]float64, name string) float64 {
				t.Helper()
				require.Contains(t, after, name)
				return after[name] - before[name]
			}
			established := "iwarp_connections{path=" + c.path + ",state=established}"
			require.EqualValues(t, 2, more(during, established))
			require.EqualValues(t, 1, more(during, "iwarp_listeners{state=listening}"))
			require.EqualValues(t, 1, more(during, "iwarp_port_reservations{state=listening}"))
			require.NoError(t, client.Close())
			require.NoError(t, server.Close())
			after := gather(t)
			require.Zero(t, more(after, established))
			for _, direction := range []string{"dial", "accept"} {
				require.EqualValues(t, 1, more(after, "iwarp_setups_total{direction="+direction+",path="+c.path+",reason="+c.reason+"}"))
			}
			if c.path == "tcp" {
				require.EqualValues(t, 2, more(during, "iwarp_connections_fallback{reason=policy}"))
				require.EqualValues(t, 1, more(after, "iwarp_listener_clients_total{outcome=plain tcp}"))
				require.EqualValues(t, 1, more(after, "iwarp_setup_duration_seconds{direction=dial,kind=tcp}"))
				return
			}
			require.EqualValues(t, 1, more(after, "iwarp_listener_clients_total{outcome=iwarp}"))
			require.EqualValues(t, 1, more(after, "iwarp_setup_duration_seconds{direction=dial,kind=rdma}"))
			require.EqualValues(t, 1, more(after, "iwarp_setup_duration_seconds{direction=accept,kind=rdma}"))
			for _, m := range []map[string]float64{during, after} {
				require.EqualValues(t, 5, more(m, "iwarp_stream_bytes_total{direction=transmit,path="+c.path+"}"))
				require.EqualValues(t, 5, more(m, "iwarp_stream_bytes_total{direction=receive,path="+c.path+"}"))
			}
			require.Len(t, after, len(before), "no series comes or goes")
		})
	}
}

// TestFailures counts a dial that finds nobody, and a client that a listener refuses.
func TestFailures(t *testing.T) {
	before := gather(t)
	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		_, _ = l.Accept()
		close(done)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, l.Close())
	<-done
	_, err = (&iwarp.Dialer{Offload: iwarp.OffloadNever}).Dial("tcp", l.Addr().String())
	require.Error(t, err)
	after := gather(t)
	for _, name := range []string{"iwarp_listener_clients_total{outcome=refused}", "iwarp_setup_failures_total{direction=dial,reason=none}"} {
		require.EqualValues(t, 1, after[name]-before[name], name)
	}
}

// TestBounded has neither an address nor a name that comes from elsewhere in any label.
func TestBounded(t *testing.T) {
	for range 20 {
		meet(t, iwarp.ListenConfig{Offload: iwarp.OffloadRequire}, iwarp.Dialer{Offload: iwarp.OffloadRequire})
	}
	values := gather(t)
	require.Less(t, len(values), 250)
	for name := range values {
		require.NotContains(t, name, "127.0.0.1")
	}
}

func TestConcurrently(t *testing.T) {
	c := iwarpprom.NewCollector()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	require.Error(t, r.Register(iwarpprom.NewCollector()), "twice the same")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := r.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
