package soak

import (
	"bytes"
	"errors"
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

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

var (
	duration = flag.Duration("duration", 0, "how long TestTraffic runs; 0 skips it")
	conns    = flag.Int("conns", 20, "how many connections TestTraffic has at once")
	storm    = flag.Int("storm", 0, "how many connections TestStorm makes and closes; 0 skips it")
	restarts = flag.Int("restarts", 0, "how often TestRestarts starts its listener again; 0 skips it")
)

func TestMain(m *testing.M) { testkit.Run(m) }

// patience is when a call is taken to hang.
const patience = 2 * time.Minute

// largest is the most that a message has.
const largest = 32 << 10

// data is what all messages are parts of.
var data = func() []byte {
	b := make([]byte, 2*largest)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}()

type conn interface {
	net.Conn
	CloseWrite() error
	SetLinger(int) error
}

// A crowd is the clients of a service.
type crowd struct {
	d       *iwarp.Dialer
	address string

	bytes, made, killed, refused, failed atomic.Int64
	wrong                                atomic.Pointer[string]
}

func newCrowd(address string) *crowd {
	return &crowd{address: address, d: &iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{soft.New(nil)}}}
}

func (w *crowd) tell(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.wrong.CompareAndSwap(nil, &text)
}

func (w *crowd) dial() conn {
	c, err := w.d.Dial("tcp", w.address)
	if err != nil {
		w.refused.Add(1)
		var op *net.OpError
		if !errors.As(err, &op) {
			w.tell("dial: %T %v", err, err)
		}
		return nil
	}
	w.made.Add(1)
	return c.(conn)
}

// exchange sends a part of data and checks the echo. An end that is not expected is no error.
func (w *crowd) exchange(c conn, b []byte) bool {
	n := 1 + rand.IntN(len(b))
	from := rand.IntN(largest)
	_ = c.SetDeadline(time.Now().Add(patience))
	sent := make(chan error, 1)
	if n <= 4096 {
		_, err := c.Write(data[from : from+n])
		sent <- err
	} else { // the echo may have to be taken meanwhile
		go func() { _, err := c.Write(data[from : from+n]); sent <- err }()
	}
	got, err := io.ReadFull(c, b[:n])
	if err != nil {
		_ = c.SetDeadline(time.Unix(1, 0)) // for the Write
	}
	werr := <-sent
	w.bytes.Add(int64(got))
	if !bytes.Equal(b[:got], data[from:from+got]) {
		w.tell("wrong bytes")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.tell("a call hangs: %v, %v", err, werr)
	}
	return err == nil && werr == nil
}

// kill ends c in one of the ways there are.
func (w *crowd) kill(c conn) {
	w.killed.Add(1)
	switch rand.IntN(4) {
	case 0:
		_ = c.SetLinger(0)
	case 1:
		_ = c.CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, _ = io.Copy(io.Discard, c)
	case 2:
		_, _ = c.Write(data[:100]) // of which the echo is not taken
	}
	_ = c.Close()
}

// client keeps a connection busy until stop is closed.
func (w *crowd) client(stop <-chan struct{}) {
	b := make([]byte, largest)
	var c conn
	defer func() {
		if c != nil {
			w.kill(c)
		}
	}()
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rand.Int64N(int64(20*time.Millisecond) * int64(1+*conns/100)))):
		}
		if c == nil {
			c = w.dial()
			continue
		}
		size := b[:[...]int{16, 16, 16, 1000, 1000, len(b)}[rand.IntN(6)]]
		switch {
		case !w.exchange(c, size):
			w.failed.Add(1)
			_ = c.Close()
			c = nil
		case rand.IntN(200) == 0:
			w.kill(c)
			c = nil
		}
	}
}

// long skips a test that was not asked for.
func long(t *testing.T, not bool) {
	if not {
		t.Skip("not asked for: see the doc of the package, or .ci/long")
	}
}

// TestTraffic has many connections with random traffic, which both ends kill now and then.
func TestTraffic(t *testing.T) {
	long(t, *duration == 0)
	before := baseline()
	s := startServer(t)
	w := newCrowd(s.address)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range *conns {
		clients.Go(func() { w.client(stop) })
	}
	var first, last [2]footprint // of the clients and of the server
	for i := range 10 {
		time.Sleep(*duration / 10)
		last = [2]footprint{measure(), s.measure()}
		if i == 3 {
			first = last
		}
		t.Logf("%v: clients %v; server %v; %d connections made, %d killed by the client, %d ended by the server, %d MB echoed",
			(*duration / 10 * time.Duration(i+1)).Round(time.Millisecond), last[0], last[1],
			w.made.Load(), w.killed.Load(), w.failed.Load(), w.bytes.Load()>>20)
	}
	close(stop)
	clients.Wait()
	s.end()
	w.check(t)
	require.NotZero(t, w.bytes.Load())
	for i := range first {
		require.LessOrEqual(t, last[i].Resident, first[i].Resident+first[i].Resident/4+64<<20, "resident memory grows")
	}
	before.awaitEnd(t)
}

func (w *crowd) check(t *testing.T) {
	t.Helper()
	if text := w.wrong.Load(); text != nil {
		t.Fatal(*text)
	}
}

// TestStorm makes connections and closes them at once, some without a byte.
func TestStorm(t *testing.T) {
	long(t, *storm == 0)
	before := baseline()
	s := mustListen(t, "127.0.0.1:0")
	w := newCrowd(s.address)
	begin := time.Now()
	var next atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			b := make([]byte, 16)
			for next.Add(1) <= int64(*storm) {
				c := w.dial()
				if c == nil {
					continue
				}
				if rand.IntN(2) == 0 && !w.exchange(c, b) {
					w.failed.Add(1)
				}
				w.kill(c)
			}
		})
	}
	clients.Wait()
	took := time.Since(begin)
	s.close()
	w.check(t)
	t.Logf("%d connections in %v, %d refused, %d failed, %v", w.made.Load(), took.Round(time.Millisecond), w.refused.Load(), w.failed.Load(), measure())
	require.Zero(t, w.refused.Load())
	require.Zero(t, w.failed.Load())
	before.awaitEnd(t)
}

// TestRestarts ends the listener and starts it again, on the same port, while clients come.
func TestRestarts(t *testing.T) {
	long(t, *restarts == 0)
	before := baseline()
	s := mustListen(t, "127.0.0.1:0")
	w := newCrowd(s.address)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() { w.client(stop) })
	}
	for range *restarts {
		end := time.Now().Add(patience)
		for from := w.bytes.Load(); w.bytes.Load() == from && w.wrong.Load() == nil; {
			require.True(t, time.Now().Before(end), "nothing is echoed")
			time.Sleep(time.Millisecond)
		}
		s.close()
		s = mustListen(t, w.address)
	}
	close(stop)
	clients.Wait()
	s.close()
	w.check(t)
	t.Logf("%d restarts, %d connections, %d refused between two, %d MB echoed, %v", *restarts, w.made.Load(), w.refused.Load(), w.bytes.Load()>>20, measure())
	before.awaitEnd(t)
}
