package rdmanet_test

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/rdmanet/iwarp/rdmanet"
)

// twins are the kinds of connection that benchmarks hold side by side.
var twins = []struct {
	name    string
	connect func(testing.TB) (a, b net.Conn)
}{
	{"tcp", func(t testing.TB) (net.Conn, net.Conn) {
		a, b := connectTCP(t)
		t.Cleanup(func() { a.Close(); b.Close() })
		return a, b
	}},
	{"extended", func(t testing.TB) (net.Conn, net.Conn) { e := connect(t, setting{}); return e.a, e.b }},
	{"plain", func(t testing.TB) (net.Conn, net.Conn) {
		e := connect(t, setting{client: rdmanet.Config{Plain: true}})
		return e.a, e.b
	}},
}

func BenchmarkPingPong(b *testing.B) {
	for _, size := range []int{1, 64, 4 << 10, 64 << 10} {
		for _, tw := range twins {
			b.Run(fmt.Sprintf("conn=%s/size=%d", tw.name, size), func(b *testing.B) {
				x, y := tw.connect(b)
				done := make(chan struct{})
				go func() {
					defer close(done)
					buf := make([]byte, size)
					for {
						if _, err := io.ReadFull(y, buf); err != nil {
							return
						}
						if _, err := y.Write(buf); err != nil {
							return
						}
					}
				}()
				buf := make([]byte, size)
				b.ReportAllocs()
				b.SetBytes(int64(2 * size))
				for b.Loop() {
					if _, err := x.Write(buf); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(x, buf); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				x.Close()
				<-done
			})
		}
	}
}

func BenchmarkOneWay(b *testing.B) {
	for _, size := range []int{64, 4 << 10, 64 << 10, 1 << 20} {
		for _, tw := range twins {
			b.Run(fmt.Sprintf("conn=%s/size=%d", tw.name, size), func(b *testing.B) {
				x, y := tw.connect(b)
				done := make(chan struct{})
				go func() {
					defer close(done)
					buf := make([]byte, max(size, 64<<10))
					for {
						if _, err := y.Read(buf); err != nil {
							return
						}
					}
				}()
				buf := make([]byte, size)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if _, err := x.Write(buf); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				x.Close()
				<-done
			})
		}
	}
}

// BenchmarkBuffers writes 100 small slices in one call, and in one for each.
func BenchmarkBuffers(b *testing.B) {
	ways := append(bufferWays[1:], bufferWay{"WriteTo", func(c net.Conn, v *net.Buffers) (int64, error) { return v.WriteTo(c) }})
	for _, way := range ways {
		for _, tw := range twins {
			b.Run(fmt.Sprintf("by=%s/conn=%s", way.name, tw.name), func(b *testing.B) {
				x, y := tw.connect(b)
				done := make(chan struct{})
				go func() {
					defer close(done)
					_, _ = io.Copy(io.Discard, y)
				}()
				p, v := make([]byte, 16), make(net.Buffers, 100)
				b.ReportAllocs()
				b.SetBytes(int64(len(p) * len(v)))
				for b.Loop() {
					for i := range v {
						v[i] = p
					}
					w := v
					if _, err := way.write(x, &w); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				x.Close()
				<-done
			})
		}
	}
}
