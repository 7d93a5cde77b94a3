package faults

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
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
	all    = flag.Bool("all", false, "do harm at each byte and to each bit, not to some of them")
	sample = flag.Int("sample", 150, "how many of the faults to try with each policy, without -all")
	seed   = flag.Uint64("seed", 1, "for the choice of these")
	strict = flag.Duration("strict", 0, "fail where a call returns later than this after its deadline; 0 bounds it as a hang only")
)

func TestMain(m *testing.M) { testkit.Run(m) }

const (
	rounds  = 5 // of a message and its echo, each of them two frames
	workers = 24

	patience = 250 * time.Millisecond // the deadline of the calls
	// hang is when a call is taken to hang, after its deadline.
	hang = 20 * time.Second
)

func message(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 10+i) }

// A session is one connection through a proxy.
type session struct {
	fault    fault
	policy   iwarp.Offload // of both ends
	patience time.Duration // the deadline of the calls
	late     time.Duration // the most that a call returned after its deadline
	mu       sync.Mutex
}

// timed has f return by the deadline.
func (s *session) timed(deadline time.Time, f func() error) error {
	err := f()
	s.mu.Lock()
	s.late = max(s.late, time.Since(deadline))
	s.mu.Unlock()
	return err
}

// An outcome is what an end has got, and how that ended.
type outcome struct {
	got []byte
	err error
}

func (s *session) configs() (*iwarp.ListenConfig, *iwarp.Dialer) {
	only := []transport.Transport{soft.New(nil)}
	return &iwarp.ListenConfig{Offload: s.policy, HandshakeTimeout: s.patience, Transports: only},
		&iwarp.Dialer{Offload: s.policy, HandshakeTimeout: s.patience, Transports: only}
}

// run returns what both ends have got, and how many bytes have come each way.
func (s *session) run(t *testing.T) (client, server outcome, passed [2]int) {
	lc, d := s.configs()
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := newProxy(t, l.Addr().String(), s.fault)
	var served sync.WaitGroup
	served.Go(func() { server = s.serve(l) })
	client = s.dial(d, p.addr())
	_ = l.Close()
	served.Wait()
	p.close()
	return client, server, p.passed
}

func (s *session) dial(d *iwarp.Dialer, to string) (o outcome) {
	deadline := time.Now().Add(s.patience)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	var c net.Conn
	o.err = s.timed(deadline, func() (err error) {
		c, err = d.DialContext(ctx, "tcp", to)
		return err
	})
	if o.err != nil {
		return o
	}
	defer c.Close()
	deadline = time.Now().Add(s.patience)
	_ = c.SetDeadline(deadline)
	for i := range rounds {
		if o.err = s.timed(deadline, func() error { _, err := c.Write(message(i)); return err }); o.err != nil {
			return o
		}
		b := make([]byte, len(message(i)))
		n := 0
		o.err = s.timed(deadline, func() (err error) { n, err = io.ReadFull(c, b); return err })
		o.got = append(o.got, b[:n]...)
		if o.err != nil {
			return o
		}
	}
	if o.err = c.(interface{ CloseWrite() error }).CloseWrite(); o.err == nil {
		o.err = s.timed(deadline, func() error { _, err := io.ReadFull(c, make([]byte, 1)); return err })
	}
	return o
}

// serve echoes what comes over the one connection that there is.
func (s *session) serve(l net.Listener) (o outcome) {
	c, err := l.Accept()
	if err != nil {
		o.err = err
		return o
	}
	defer c.Close()
	deadline := time.Now().Add(s.patience)
	_ = c.SetDeadline(deadline)
	b := make([]byte, 256)
	for {
		n := 0
		o.err = s.timed(deadline, func() (err error) { n, err = c.Read(b); return err })
		o.got = append(o.got, b[:n]...)
		if o.err == nil {
			o.err = s.timed(deadline, func() error { _, err := c.Write(b[:n]); return err })
		}
		if o.err != nil {
			return o
		}
	}
}

var everything = func() (b []byte) {
	for i := range rounds {
		b = append(b, message(i)...)
	}
	return b
}()

// check returns what is wrong with the outcome of a fault.
func (s *session) check(client, server outcome) error {
	for who, o := range map[string]outcome{"client": client, "server": server} {
		// What begins like a request and then ends may as well be the bytes of a client of plain TCP.
		cut := who == "server" && s.policy == iwarp.OffloadPrefer && strings.HasPrefix("MPA ID Req Frame", string(o.got))
		if !bytes.HasPrefix(everything, o.got) && !cut {
			return fmt.Errorf("the %s got %q: %w", who, o.got, o.err)
		}
		var opError *net.OpError
		if o.err != io.EOF && o.err != io.ErrUnexpectedEOF && !errors.As(o.err, &opError) {
			return fmt.Errorf("the %s got %T: %w", who, o.err, o.err)
		}
	}
	if s.fault.kind.harmless() && (len(client.got) != len(everything) || client.err != io.EOF) {
		return fmt.Errorf("the client got %d bytes: %w; the server %d: %w", len(client.got), client.err, len(server.got), server.err)
	}
	if s.late > hang || *strict > 0 && s.late > *strict {
		return fmt.Errorf("a call returned %v after its deadline", s.late)
	}
	return nil
}

// TestFaults does each kind of harm, over iWARP where both ends insist on it and where they would
// do without, and over plain TCP for the kinds that leave the bytes as they are.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		policy iwarp.Offload
		kinds  []kind
	}{
		{iwarp.OffloadRequire, []kind{reset, stall, halfClose, delay, duplicate, flip, segments}},
		{iwarp.OffloadPrefer, []kind{reset, stall, halfClose, delay, segments}},
		{iwarp.OffloadNever, []kind{reset, stall, halfClose, delay, segments}},
	} {
		t.Run(tt.policy.String(), func(t *testing.T) {
			usual := &session{policy: tt.policy, patience: hang}
			client, server, passed := usual.run(t) // the first one, which takes descriptors for good
			require.NoError(t, usual.check(client, server))
			require.Equal(t, everything, client.got)
			before := settled(t)
			list := faults(tt.kinds, passed)
			t.Logf("%d and %d bytes, %d faults", passed[0], passed[1], len(list))
			if !*all {
				rand.New(rand.NewPCG(*seed, 0)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
				list = list[:min(*sample, len(list))]
			}
			each(t, list, tt.policy)
			require.Eventually(t, func() bool { return testkit.OpenFiles(t) <= before }, hang, 10*time.Millisecond, "descriptors are left over")
		})
	}
}

// faults are those of the kinds at each byte of both directions.
func faults(kinds []kind, passed [2]int) (list []fault) {
	for _, k := range kinds {
		if k == segments {
			list = append(list, fault{kind: k})
			continue
		}
		for dir, n := range passed {
			for at := range n {
				for bit := range uint8(8) {
					if k == flip || bit == 0 {
						list = append(list, fault{k, dir, at, bit})
					}
				}
			}
		}
	}
	return list
}

// each tries a list of faults, some at once.
func each(t *testing.T, list []fault, policy iwarp.Offload) {
	var next atomic.Int64
	var worst time.Duration
	var latest sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return
				}
				s := &session{fault: list[i], policy: policy, patience: patience}
				if s.fault.kind.harmless() {
					s.patience = hang
				}
				client, server, _ := s.run(t)
				if err := s.check(client, server); err != nil {
					t.Errorf("%v: %v", list[i], err)
				}
				latest.Lock()
				worst = max(worst, s.late)
				latest.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("the latest call returned %v after its deadline", worst)
}

// settled is how many descriptors there are once nothing closes any.
func settled(t *testing.T) int {
	n := testkit.OpenFiles(t)
	for last := n + 1; n < last; {
		time.Sleep(50 * time.Millisecond)
		last, n = n, testkit.OpenFiles(t)
	}
	return n
}
