package iwarpgrpc_test

import (
	"context"
	"fmt"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rdmanet/iwarp"
	iwarpgrpc "github.com/rdmanet/iwarp/grpc"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// healthy says by which path it was asked.
type healthy struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (healthy) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	info, ok := iwarpgrpc.FromContext(ctx)
	fmt.Println("server:", info.Transport, ok)
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func Example() {
	only := []transport.Transport{soft.New(nil)} // for the same output everywhere
	l, err := (&iwarp.ListenConfig{Transports: only}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(iwarpgrpc.ServerOption(insecure.NewCredentials()))
	grpc_health_v1.RegisterHealthServer(server, healthy{})
	go server.Serve(l)
	defer server.Stop()

	var counter iwarpgrpc.Counter
	dialer := &iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: only}
	options := append(iwarpgrpc.DialOptions(dialer, insecure.NewCredentials()), grpc.WithStatsHandler(&counter))
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), options...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		if _, err := grpc_health_v1.NewHealthClient(conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
			log.Fatal(err)
		}
	}
	for _, n := range counter.Counts() {
		fmt.Println("client:", n.Ended, "calls by", n.Path)
	}
	// Output:
	// server: soft true
	// server: soft true
	// server: soft true
	// client: 3 calls by soft
}
