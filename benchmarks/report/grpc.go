package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

const (
	unarySize  = 64
	streamSize = 64 << 10

	unaryMethod  = "/benchmark/Echo"
	streamMethod = "/benchmark/Take"
)

// grpcService is written by hand: of generated code there would be more, and it would do the same.
var grpcService = grpc.ServiceDesc{
	ServiceName: "benchmark",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Echo", Handler: echoUnary}},
	Streams:     []grpc.StreamDesc{{StreamName: "Take", Handler: takeStream, ClientStreams: true}},
}

func echoUnary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	m := new(wrapperspb.BytesValue)
	return m, decode(m)
}

// takeStream answers with the number of bytes that it has got.
func takeStream(_ any, s grpc.ServerStream) error {
	var total uint64
	for {
		m := new(wrapperspb.BytesValue)
		err := s.RecvMsg(m)
		if err == io.EOF {
			return s.SendMsg(wrapperspb.UInt64(total))
		}
		if err != nil {
			return err
		}
		total += uint64(len(m.Value))
	}
}

func serveGRPC(l net.Listener) (stop func()) {
	s := grpc.NewServer()
	s.RegisterService(&grpcService, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	return func() { s.Stop(); <-done }
}

func dialGRPC(b *bench, p lab.Path) (*grpc.ClientConn, error) {
	address := b.peer.Address(p, "grpc")
	return grpc.NewClient("passthrough:///peer", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.Dial(ctx, address) }))
}

func prepareUnary(_ context.Context, b *bench, p lab.Path) (runner, error) {
	c, err := dialGRPC(b, p)
	if err != nil {
		return nil, err
	}
	in := wrapperspb.Bytes(bytes.Repeat([]byte("x"), unarySize))
	call := func(ctx context.Context) error {
		out := new(wrapperspb.BytesValue)
		if err := c.Invoke(ctx, unaryMethod, in, out); err != nil {
			return err
		}
		if len(out.Value) != unarySize {
			return fmt.Errorf("%d bytes of %d", len(out.Value), unarySize)
		}
		return nil
	}
	return &requesting{b: b, do: call, after: func() { c.Close() }}, nil
}

// A streaming sends messages that it does not wait for, in one stream for each slice.
type streaming struct {
	b *bench
	c *grpc.ClientConn
}

func prepareStream(_ context.Context, b *bench, p lab.Path) (runner, error) {
	c, err := dialGRPC(b, p)
	if err != nil {
		return nil, err
	}
	return &streaming{b, c}, nil
}

func (s *streaming) close() { s.c.Close() }

func (s *streaming) run(ctx context.Context, n uint64) (sample, error) {
	message := wrapperspb.Bytes(bytes.Repeat([]byte("x"), streamSize))
	m, err := s.b.meter()
	if err != nil {
		return sample{}, err
	}
	if err := s.send(ctx, n, message); err != nil {
		return sample{}, err
	}
	used, err := m.read()
	sent := float64(n) * streamSize
	return sample{[]float64{sent / used.took.Seconds(), float64(used.cpu) / sent}, used.took}, err
}

func (s *streaming) send(ctx context.Context, n uint64, message any) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	to, err := s.c.NewStream(ctx, &grpcService.Streams[0], streamMethod)
	if err != nil {
		return err
	}
	for range n {
		if err := to.SendMsg(message); err != nil {
			return err
		}
	}
	if err := to.CloseSend(); err != nil {
		return err
	}
	var total wrapperspb.UInt64Value
	if err := to.RecvMsg(&total); err != nil {
		return err
	}
	if total.Value != n*streamSize {
		return fmt.Errorf("%d bytes of %d", total.Value, n*streamSize)
	}
	return nil
}
