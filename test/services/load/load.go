// Package load has clients of all kinds send requests to a server until they are told to stop.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rdmanet/iwarp"
)

// Patience tells a hang from an end.
const Patience = 30 * time.Second

// kinds are how clients dial, and the transport that Describe tells.
var kinds = []struct {
	name, transport string
	dial            func(context.Context, string, string) (net.Conn, error)
}{
	{"package net", "", (&net.Dialer{Timeout: Patience}).DialContext},
	{"never", "tcp", dialer(iwarp.OffloadNever)},
	{"auto", "tcp", dialer(iwarp.OffloadAuto)},
	{"prefer", "soft", dialer(iwarp.OffloadPrefer)},
	{"require", "soft", dialer(iwarp.OffloadRequire)},
}

func dialer(o iwarp.Offload) func(context.Context, string, string) (net.Conn, error) {
	// A server that is late is no reason for plain TCP here.
	return (&iwarp.Dialer{Offload: o, Timeout: Patience, HandshakeTimeout: Patience}).DialContext
}

// Clients send requests all the time.
type Clients struct {
	address  string
	check    func(said string) error
	ctx      context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
	answered atomic.Int64
	failed   atomic.Int64

	mu       sync.Mutex
	failures map[string]int
}

// Start begins. Each answer is given to check.
func Start(address string, check func(said string) error) *Clients {
	c := &Clients{address: address, check: check, failures: make(map[string]int)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	for _, k := range kinds {
		for _, keep := range []bool{true, false} {
			for range 2 {
				c.running.Go(func() { c.run(k.name, k.transport, k.dial, keep) })
			}
		}
	}
	return c
}

func (c *Clients) run(name, transport string, dial func(context.Context, string, string) (net.Conn, error), keep bool) {
	tr := &http.Transport{DisableKeepAlives: !keep, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// One dial asks an unknown peer, others of that time take plain TCP.
		if info, _ := iwarp.Describe(conn); info.Transport != transport && info.Reason != iwarp.ReasonAsking {
			c.fail(fmt.Sprintf("%s has %q for its transport: %v", name, info.Transport, info.Reason))
		}
		return conn, nil
	}}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: Patience}
	for c.ctx.Err() == nil {
		said, err := Get(client, c.address)
		if err == nil {
			err = c.check(said)
		}
		if err != nil {
			c.fail(fmt.Sprintf("%s, keep-alives %v: %v", name, keep, err))
			continue
		}
		c.answered.Add(1)
	}
}

func (c *Clients) fail(what string) {
	c.failed.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures[what]++; len(c.failures) > 50 {
		delete(c.failures, what)
	}
}

// Await waits until n requests have been answered.
func (c *Clients) Await(t testing.TB, n int) {
	t.Helper()
	for end := time.Now().Add(2 * Patience); c.answered.Load() < int64(n); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.Stop()
			c.Check(t)
			t.Fatalf("only %d requests are answered", c.answered.Load())
		}
	}
}

// Stop ends once the requests under way are answered.
func (c *Clients) Stop() {
	c.stop()
	c.running.Wait()
}

// Check fails the test if a request has failed.
func (c *Clients) Check(t testing.TB) {
	t.Helper()
	t.Logf("%d failed of %d requests", c.failed.Load(), c.answered.Load()+c.failed.Load())
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, n := range c.failures {
		t.Errorf("%d times %s", n, what)
	}
}

// Client makes a new connection for each request.
func Client(d *iwarp.Dialer) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, Timeout: Patience}
}

// Get returns the answer to a request.
func Get(client *http.Client, address string) (string, error) {
	resp, err := client.Get("http://" + address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(said), err
}
