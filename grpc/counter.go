package iwarpgrpc

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// A Counter counts RPCs by the path of their connection. It is a stats.Handler:
//
//	var counter iwarpgrpc.Counter
//	grpc.NewServer(iwarpgrpc.ServerOption(creds), grpc.StatsHandler(&counter))
//
// and for clients grpc.WithStatsHandler(&counter). The connections need the credentials of this
// package. One Counter may serve any number of clients and servers at once. It must not be copied.
type Counter struct {
	counts sync.Map // of *tally by kind
}

type kind struct {
	client bool
	path   string
}

type tally struct{ begun, ended, failed atomic.Uint64 }

// Count is a number of RPCs.
type Count struct {
	Client bool   // made, or else served
	Path   string // Info.Transport: "tcp", "soft" and so on; "unknown" where FromContext does not know it

	Begun  uint64 // each attempt of a client counts, once it has a connection
	Ended  uint64
	Failed uint64 // of Ended: with a status other than OK
}

// Counts returns what there was so far, by path, those served first. It may be called at any time.
func (c *Counter) Counts() (list []Count) {
	c.counts.Range(func(k, v any) bool {
		of, n := k.(kind), v.(*tally)
		// In this order, so that no number is above one that it is a part of.
		failed := n.failed.Load()
		ended := n.ended.Load()
		list = append(list, Count{of.client, of.path, n.begun.Load(), ended, failed})
		return true
	})
	slices.SortFunc(list, func(a, b Count) int {
		if a.Client != b.Client {
			if b.Client {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Path, b.Path)
	})
	return list
}

func (c *Counter) of(k kind) *tally {
	n, ok := c.counts.Load(k)
	if !ok {
		n, _ = c.counts.LoadOrStore(k, new(tally))
	}
	return n.(*tally)
}

// rpc is what is known of an RPC: where it counts, once it has a connection.
type rpc struct{ at atomic.Pointer[tally] }

// rpcKey is that of one Counter, as several may see the same RPC.
type rpcKey struct{ *Counter }

// TagRPC implements stats.Handler.
func (c *Counter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, rpcKey{c}, new(rpc))
}

// HandleRPC implements stats.Handler.
func (c *Counter) HandleRPC(ctx context.Context, s stats.RPCStats) {
	r, ok := ctx.Value(rpcKey{c}).(*rpc)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.OutHeader:
		if s.Client {
			c.begin(ctx, r, true)
		}
	case *stats.InHeader:
		if !s.Client {
			c.begin(ctx, r, false)
		}
	case *stats.End:
		n := r.at.Load()
		if n == nil { // it had no connection
			return
		}
		n.ended.Add(1)
		if status.Code(s.Error) != codes.OK {
			n.failed.Add(1)
		}
	}
}

func (c *Counter) begin(ctx context.Context, r *rpc, client bool) {
	path := "unknown"
	if info, ok := FromContext(ctx); ok {
		path = info.Transport
	}
	n := c.of(kind{client, path})
	r.at.Store(n)
	n.begun.Add(1)
}

// TagConn implements stats.Handler.
func (c *Counter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (c *Counter) HandleConn(context.Context, stats.ConnStats) {}
