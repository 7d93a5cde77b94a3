package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

// transports are those that the gateway uses. It is a variable for tests.
var transports []transport.Transport

// A gateway has the listeners of all mappings.
type gateway struct {
	mappings  []*mapping
	listeners []*iwarp.Listener // in their order
	admin     *iwarp.Listener   // nil without an address for it
	log       *slog.Logger
	metrics   *metrics
	accepting sync.WaitGroup
	carrying  sync.WaitGroup

	mu       sync.Mutex
	carried  map[*carried]bool
	draining bool
}

// newGateway listens on the addresses of all mappings and that for operators, or on none. Sockets
// that an old process, or systemd, has passed are used for them, and closed if nobody needs them.
func newGateway(all []*mapping, admin string, log *slog.Logger) (*gateway, error) {
	g := &gateway{mappings: all, log: log, metrics: newMetrics(), carried: make(map[*carried]bool)}
	passed, ready, err := inherit()
	if err == nil {
		err = g.listen(admin)
	}
	for _, r := range passed {
		if r.Release() == nil && err == nil {
			log.Warn("closed a socket that was passed, as no mapping listens on it", "address", r.Addr().String())
		}
	}
	if err == nil {
		err = ready()
	}
	if err != nil {
		g.closeListeners()
		return nil, err
	}
	return g, nil
}

// listen makes the listeners.
func (g *gateway) listen(admin string) error {
	for _, m := range g.mappings {
		lc := iwarp.ListenConfig{Offload: m.Listen.policy, Transports: transports}
		l, err := lc.Listen(context.Background(), "tcp", m.Listen.addr)
		if err != nil {
			return err
		}
		g.listeners = append(g.listeners, l.(*iwarp.Listener))
	}
	if admin != "" {
		lc := iwarp.ListenConfig{Offload: iwarp.OffloadNever}
		l, err := lc.Listen(context.Background(), "tcp", admin)
		if err != nil {
			return err
		}
		g.admin = l.(*iwarp.Listener)
	}
	return nil
}

func (g *gateway) closeListeners() {
	for _, l := range g.listeners {
		_ = l.Close()
	}
	if g.admin != nil {
		_ = g.admin.Close()
	}
}

// serve carries until ctx is done or another process has taken over, and then until what is carried
// is done, or has had its time.
func (g *gateway) serve(ctx context.Context, hangup <-chan os.Signal, o *options) error {
	defer g.serveAdmin()()
	carrying, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	for i, l := range g.listeners {
		m := g.mappings[i]
		g.log.Info("listening", "listen", l.Addr().String(), "policy", m.Listen.policy.String(), "target", m.Target.String())
		g.accepting.Go(func() { g.accept(carrying, l, m) })
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady+"\nMAINPID="+fmt.Sprint(os.Getpid()))
	for serving := true; serving; {
		select {
		case <-ctx.Done():
			_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
			serving = false
		case <-hangup:
			if err := g.handOver(); err != nil {
				g.log.Error("no other process takes over, so this one goes on", "error", err)
				continue
			}
			g.leaveAdmin()
			serving = false
		}
	}
	g.drain(o.drain, cut)
	return nil
}

// accept takes clients of a mapping, as long as it may have more.
func (g *gateway) accept(ctx context.Context, l net.Listener, m *mapping) {
	var places chan struct{}
	if m.Max > 0 {
		places = make(chan struct{}, m.Max)
	}
	const mostPause = time.Second
	pause := time.Duration(0)
	for {
		if places != nil {
			places <- struct{}{}
		}
		client, err := l.Accept()
		if err != nil {
			if places != nil {
				<-places
			}
			if !isTemporary(err) {
				if !errors.Is(err, net.ErrClosed) {
					g.log.Error("takes no more clients", "listen", l.Addr().String(), "error", err)
				}
				return
			}
			pause = min(max(2*pause, 5*time.Millisecond), mostPause)
			g.log.Warn("no client taken for a while", "error", err, "for", pause)
			time.Sleep(pause)
			continue
		}
		pause = 0
		g.carrying.Go(func() {
			g.carry(ctx, m, client)
			if places != nil {
				<-places
			}
		})
	}
}

// isTemporary reports whether Accept may do better later, as package http takes it.
func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// carry carries one connection, and tells of it.
func (g *gateway) carry(ctx context.Context, m *mapping, client net.Conn) {
	begun := time.Now()
	c := newCarried(m, client)
	g.mu.Lock()
	g.carried[c] = true
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.carried, c)
		g.mu.Unlock()
	}()
	g.metrics.open.WithLabelValues(m.Listen.addr).Inc()
	err := c.carry(ctx)
	g.metrics.open.WithLabelValues(m.Listen.addr).Dec()
	g.tell(c, err, time.Since(begun))
}

// drain takes no more clients and waits for those that are there, for up to limit. What is left is
// reset.
func (g *gateway) drain(limit time.Duration, cut func()) {
	g.mu.Lock()
	g.draining = true
	n := len(g.carried)
	g.mu.Unlock()
	g.log.Info("draining", "connections", n)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var listeners sync.WaitGroup
	for _, l := range g.listeners {
		listeners.Go(func() {
			if err := l.Drain(ctx); err != nil {
				_ = l.Close()
			}
		})
	}
	listeners.Wait()
	done := make(chan struct{})
	go func() {
		g.accepting.Wait()
		g.carrying.Wait()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	cut()
	g.mu.Lock()
	left := make([]*carried, 0, len(g.carried))
	for c := range g.carried {
		left = append(left, c)
	}
	g.mu.Unlock()
	g.log.Warn("reset what was not done in time", "connections", len(left))
	for _, c := range left {
		c.reset()
	}
	<-done
}
