package benchmarks

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

// BenchmarkLaterDial compares dials with OffloadPrefer to a plain TCP server that is known by then
// with those of package net, one after the other: "ratio" is the quotient of the medians, and
// "noise" that of two series of package net.
//
//	go test -run - -bench LaterDial -benchtime 20000x ./benchmarks
func BenchmarkLaterDial(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = c.Write([]byte("+"))
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	defer func() { _ = l.Close(); <-served }()
	prefer := iwarp.Dialer{Offload: iwarp.OffloadPrefer}
	for _, t := range transport.Registered() {
		if t.Name() == "soft" { // shared memory is asked for anew by each dial
			prefer.Transports = append(prefer.Transports, t)
		}
	}
	dials := []func(network, address string) (net.Conn, error){net.Dial, prefer.Dial, net.Dial}
	took := make([][]time.Duration, len(dials))
	dial := func(i int) time.Duration {
		began := time.Now()
		c, err := dials[i]("tcp", l.Addr().String())
		d := time.Since(began)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT
		_ = c.Close()
		return d
	}
	dial(1)
	for n := 0; b.Loop(); n++ {
		for i := range dials {
			i = (i + n) % len(dials)
			took[i] = append(took[i], dial(i))
		}
	}
	median := func(i int) float64 {
		slices.Sort(took[i])
		return float64(took[i][len(took[i])/2])
	}
	b.ReportMetric(median(0), "net-ns")
	b.ReportMetric(median(1)/median(0), "ratio")
	b.ReportMetric(median(2)/median(0), "noise")
	b.ReportMetric(0, "ns/op")
}
