package iwarp_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

var (
	far      = flag.Int("far", 0, "how many times TestFirstContactFarAway dials with the time limits that users have; 0 means 100 times with longer ones")
	farDelay = flag.Duration("far-delay", 25*time.Millisecond, "delay of its path in each direction")
	farLoss  = flag.Float64("far-loss", 0.01, "part of the packets that are lost")
)

// A path has properties that are the same in each direction.
type path struct {
	delay     time.Duration
	dataDelay time.Duration // of segments with data, in addition
	loss      float64       // part of the packets that are lost
}

// farPath makes a path in the network namespace of the test, on which this host is 10.n.0.1. At its
// end, each address of 10.n.0.0/16 is this host itself: the two addresses of a packet are
// exchanged.
func farPath(t testing.TB, n byte, p path) {
	t.Helper()
	device := fmt.Sprint("far", n)
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		skipUnprivileged(t, err)
	}
	req, err := unix.NewIfreq(device)
	require.NoError(t, err)
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	require.NoError(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	tun := os.NewFile(uintptr(fd), device)
	ip(t, fmt.Sprintf("addr add 10.%d.0.1/16 dev %s", n, device))
	ip(t, "link set "+device+" txqueuelen 10000 up")

	type packet struct {
		due time.Time
		b   []byte
	}
	line := make(chan packet, 1<<16)
	var ends sync.WaitGroup
	ends.Go(func() {
		defer close(line)
		dice := rand.New(rand.NewPCG(1, 2))
		b := make([]byte, 1<<16)
		for {
			n, err := tun.Read(b)
			if err != nil {
				return
			}
			if n < 20 || b[0]>>4 != 4 || dice.Float64() < p.loss {
				continue
			}
			from, to := binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
			binary.BigEndian.PutUint32(b[12:], to)
			binary.BigEndian.PutUint32(b[16:], from)
			due := time.Now().Add(p.delay)
			if hasData(b[:n]) {
				due = due.Add(p.dataDelay)
			}
			line <- packet{due, append([]byte(nil), b[:n]...)}
		}
	})
	ends.Go(func() {
		for p := range line {
			time.Sleep(time.Until(p.due))
			_, _ = tun.Write(p.b)
		}
	})
	t.Cleanup(func() { _ = tun.Close(); ends.Wait() })
}

// hasData reports whether a packet of IPv4 is a TCP segment with data.
func hasData(packet []byte) bool {
	header := int(packet[0]&0xf) * 4
	return len(packet) > header+12 && len(packet) > header+int(packet[header+12]>>4)*4
}

// TestShortTimeFarAway connects within each Timeout in which package net does, whatever the server
// speaks, and asks nobody where there is no time for both the answer and a plain connection.
func TestShortTimeFarAway(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	defer iwarp.SetAnswerSlack(100 * time.Millisecond)()
	farPath(t, 8, path{delay: 400 * time.Millisecond})
	silent, err := net.Listen("tcp", "10.8.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	came := make(chan int, 16)
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				came <- len(b)
			}()
		}
	}()
	speaks, err := iwarp.Listen("tcp", "10.8.0.1:0")
	require.NoError(t, err)
	defer speaks.Close()
	go echo(speaks)

	host := 1
	var dials sync.WaitGroup
	dial := func(l net.Listener, timeout time.Duration, asks bool) {
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		host++
		addr := net.JoinHostPort(fmt.Sprint("10.8.0.", host), port)
		for name, d := range map[string]interface {
			Dial(network, address string) (net.Conn, error)
		}{"net": &net.Dialer{Timeout: timeout}, "iwarp": &iwarp.Dialer{Offload: iwarp.OffloadPrefer, Timeout: timeout}} {
			dials.Go(func() {
				c, err := d.Dial("tcp", addr)
				if !assert.NoError(t, err, "%s %v", name, timeout) {
					return
				}
				defer c.Close()
				if name == "iwarp" && !asks {
					info := describe(t, c)
					assert.Equal(t, iwarp.ReasonHandshakeTimeout, info.Reason)
					assert.EqualError(t, info.Err, "too little time left to ask")
				}
			})
		}
	}
	short := []time.Duration{1800 * time.Millisecond, 2600 * time.Millisecond}
	for _, timeout := range short {
		dial(silent, timeout, false)
		dial(speaks, timeout, false)
	}
	dials.Wait()
	for range 2 * len(short) {
		require.Zero(t, <-came)
	}
	dial(silent, 4400*time.Millisecond, true)
	dial(speaks, 4400*time.Millisecond, true)
	dials.Wait()
}

// TestFirstContactFarAway finds servers of iWARP that are far away, at the first dial and although
// packets get lost:
//
//	go test -run FirstContactFarAway -v -far=1000 .
func TestFirstContactFarAway(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n, atOnce, lc := 100, 100, iwarp.ListenConfig{FirstByteTimeout: patience}
	if *far > 0 {
		n, atOnce, lc = *far, 20, iwarp.ListenConfig{}
		defer iwarp.SetAnswerSlack(100 * time.Millisecond)()
	}
	farPath(t, 9, path{delay: *farDelay, loss: *farLoss})
	l, err := lc.Listen(t.Context(), "tcp", "10.9.0.1:0")
	require.NoError(t, err)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				_, _ = c.Read(make([]byte, 1))
			})
		}
	})

	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	var next, found atomic.Int32
	var dials sync.WaitGroup
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer}
	for range atOnce {
		dials.Go(func() {
			for i := next.Add(1); int(i) <= n; i = next.Add(1) {
				began := time.Now()
				c, err := d.Dial("tcp", net.JoinHostPort(fmt.Sprintf("10.9.%d.%d", 1+i>>8, i&255), port))
				if !noError(t, err) {
					return
				}
				if info := describe(t, c); info.Transport == "soft" {
					found.Add(1)
				} else {
					t.Logf("dial %d: %v after %v", i, info.Reason, time.Since(began))
				}
				_ = c.Close()
			}
		})
	}
	dials.Wait()
	_ = l.Close()
	served.Wait()
	t.Logf("found %d of %d", found.Load(), n)
	require.EqualValues(t, n, found.Load())
}
