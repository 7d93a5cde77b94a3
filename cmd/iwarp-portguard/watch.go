package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rdmanet/iwarp/cmd/internal/proc"
)

// Looks take a share-th of a processor at most, unless they would be further apart than longest.
const (
	share   = 10
	longest = time.Second
)

// watch looks again and again until ctx ends.
func (o *options) watch(ctx context.Context, g *guard) error {
	m := newMetrics(o.interval)
	if o.metrics != "" {
		stop, err := m.serve(o.metrics)
		if err != nil {
			return err
		}
		defer stop()
	}
	var failing string
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ready := false; ; {
		select {
		case <-ctx.Done():
			g.log.Info("giving all ports back", "ports", g.held)
			return nil
		case <-timer.C:
		}
		began, used := time.Now(), proc.ProcessorTime()
		err := g.look(ctx)
		took, cost := time.Since(began), proc.ProcessorTime()-used
		m.record(g, took, err)
		switch {
		case err == nil && failing != "":
			g.log.Info("the kernel answers again")
			failing = ""
		case err != nil && err.Error() != failing:
			failing = err.Error()
			g.log.Error("the kernel cannot be asked about RDMA; ports stay as they are", "error", err)
		}
		if !ready {
			if ready = true; err != nil {
				return err
			}
			g.log.Info("holding ports", "interval", o.interval, "ports", g.held, "not held", len(g.troubles))
			notify("READY=1")
		}
		timer.Reset(max(o.interval, min(share*cost, longest)) - took)
	}
}

// notify tells systemd, if it has started this program (sd_notify(3)).
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	_, _ = c.Write([]byte(state))
	_ = c.Close()
}

// serve has the metrics at an address until stop is called.
func (m *metrics) serve(address string) (stop func(), err error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
		// What a process that was killed has left would be in the way.
		if c, err := net.Dial(network, address); err == nil {
			_ = c.Close()
		} else if i, err := os.Lstat(address); err == nil && i.Mode()&os.ModeSocket != 0 {
			_ = os.Remove(address)
		}
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.handler())
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 14}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			_ = l.Close()
		}
	}()
	return func() {
		_ = s.Close()
		<-done
	}, nil
}
