package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A bench is this end of all measurements.
type bench struct {
	peer     *lab.Peer
	control  *lab.Client // to ask the peer what it uses
	machine  machine     // of the peer
	twoHosts bool
}

// services is what the peer offers besides the streams of package lab.
func services() []lab.Service {
	return []lab.Service{{Name: "http", Serve: serveHTTP}, {Name: "grpc", Serve: serveGRPC}}
}

// newBench starts the peer in a process of its own, or finds it at the address.
func newBench(ctx context.Context, address string) (b *bench, err error) {
	b = &bench{machine: thisMachine(), twoHosts: address != ""}
	if b.twoHosts {
		b.peer, b.machine, err = connectPeer(ctx, address)
	} else {
		b.peer, err = lab.StartProcess(ctx)
	}
	if err != nil {
		return nil, err
	}
	reference, _ := lab.Lookup(lab.TCP)
	if b.control, err = lab.Connect(ctx, reference, b.peer); err != nil {
		b.peer.Close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	b.control.Close()
	b.peer.Close()
}

// has reports whether both ends have the path.
func (b *bench) has(p lab.Path) bool {
	return b.peer.Address(p, "") != "" && !(b.twoHosts && p.OneHost)
}

// usage returns what this end and the peer use.
func (b *bench) usage(collected bool) (own, peer lab.Usage, err error) {
	peer, err = b.control.PeerUsage(collected)
	return lab.OwnUsage(collected), peer, err
}

// A meter says what both ends have used since it was started.
type meter struct {
	b         *bench
	own, peer lab.Usage
	began     time.Time
}

func (b *bench) meter() (m meter, err error) {
	m.b = b
	m.own, m.peer, err = b.usage(false)
	m.began = time.Now()
	return m, err
}

// A cost is what a slice took at both ends together.
type cost struct {
	took    time.Duration
	cpu     time.Duration
	objects float64
}

func (m meter) read() (c cost, err error) {
	c.took = time.Since(m.began)
	own, peer, err := m.b.usage(false)
	c.cpu = own.CPU + peer.CPU - m.own.CPU - m.peer.CPU
	c.objects = float64(own.Objects + peer.Objects - m.own.Objects - m.peer.Objects)
	return c, err
}

// during makes what f waits for fail once ctx is done, by closing c.
func during(ctx context.Context, c interface{ Close() error }, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	err := f()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}
