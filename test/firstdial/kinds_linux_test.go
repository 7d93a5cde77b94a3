package firstdial

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

var services = flag.Int("services", 60, "how many services TestServices dials")

// kinds are what services do with a client that says what they do not understand.
var kinds = []struct {
	name   string
	reason iwarp.Reason
	serve  func(c *net.TCPConn)
}{
	{"waits for more", iwarp.ReasonHandshakeTimeout, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }},
	{"never accepts", iwarp.ReasonHandshakeTimeout, nil},
	{"reads a line and answers", iwarp.ReasonNotIWARP, func(c *net.TCPConn) {
		if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			_, _ = io.WriteString(c, "ERROR\r\n")
			_, _ = io.Copy(io.Discard, c)
		}
	}},
	{"speaks first", iwarp.ReasonNotIWARP, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "220 ready\r\n")
		_, _ = io.Copy(io.Discard, c)
	}},
	{"hangs up", iwarp.ReasonNotIWARP, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 512)) }},
	{"resets", iwarp.ReasonNotIWARP, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 16))
		_ = c.SetLinger(0)
	}},
}

// TestServices dials many services of all kinds, each for the first time, and says what that costs:
//
//	go test ./test/firstdial -run Services -v -services=1000
func TestServices(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	addrs := make([]string, *services)
	var served sync.WaitGroup
	var listeners []net.Listener
	for i := range addrs {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		addrs[i], listeners = l.Addr().String(), append(listeners, l)
		serve := kinds[i%len(kinds)].serve
		if serve == nil {
			continue
		}
		served.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				served.Go(func() {
					defer c.Close()
					serve(c.(*net.TCPConn))
				})
			}
		})
	}
	t.Cleanup(func() {
		for _, l := range listeners {
			_ = l.Close()
		}
		served.Wait()
	})
	took, control := make([]time.Duration, len(addrs)), make([]time.Duration, len(addrs))
	var next atomic.Int64
	var dials sync.WaitGroup
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, Timeout: patience}
	for range 4 {
		dials.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(addrs); i = int(next.Add(1)) - 1 {
				began := time.Now()
				c, err := d.Dial("tcp", addrs[i])
				took[i] = time.Since(began)
				if err != nil {
					t.Error(err)
					return
				}
				info, _ := iwarp.Describe(c)
				if want := kinds[i%len(kinds)].reason; info.Reason != want && info.Reason != iwarp.ReasonHandshakeTimeout {
					t.Errorf("%s: %v instead of %v", kinds[i%len(kinds)].name, info.Reason, want)
				}
				_ = c.Close()
				began = time.Now()
				c, err = net.Dial("tcp", addrs[i])
				control[i] = time.Since(began)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.Close()
			}
		})
	}
	dials.Wait()
	for k, kind := range kinds {
		t.Logf("%-25s %s", kind.name, summary(took, k))
	}
	t.Logf("%-25s %s", "of net.Dial, silent ones", summary(control, 0))
}

// summary says how long the dials to services of a kind took.
func summary(took []time.Duration, kind int) string {
	var list []time.Duration
	for i := kind; i < len(took); i += len(kinds) {
		list = append(list, took[i])
	}
	slices.Sort(list)
	at := func(q float64) string {
		return strconv.FormatFloat(list[int(q*float64(len(list)-1))].Seconds()*1000, 'f', 2, 64)
	}
	return fmt.Sprintf("%d dials: median %s ms, 99 %% %s ms, at most %s ms", len(list), at(0.5), at(0.99), at(1))
}
