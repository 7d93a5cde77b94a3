package iwarpgrpc

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rdmanet/iwarp"
)

// DialOptions returns what a client needs: connections are dialed by d, and have the credentials,
// as NewCredentials returns them. A nil Dialer stands for the zero Dialer. Without credentials
// grpc.NewClient returns its error for that.
//
// Targets of Unix sockets are dialed by package net. As with every dialer that is given to gRPC,
// proxies of the environment are not used.
func DialOptions(d *iwarp.Dialer, creds credentials.TransportCredentials) []grpc.DialOption {
	if d == nil {
		d = &iwarp.Dialer{}
	}
	options := []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
		network, address := split(target)
		return d.DialContext(ctx, network, address)
	})}
	if creds != nil {
		options = append(options, grpc.WithTransportCredentials(NewCredentials(creds)))
	}
	return options
}

// ServerOption returns what a server needs besides a listener of package iwarp: the credentials, as
// NewCredentials returns them. nil stands for none, as with gRPC itself: clients are not encrypted.
func ServerOption(creds credentials.TransportCredentials) grpc.ServerOption {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	return grpc.Creds(NewCredentials(creds))
}

// split takes apart what gRPC passes to a dialer.
func split(target string) (network, address string) {
	switch path, unix := strings.CutPrefix(target, "unix:"); {
	case unix:
		return "unix", strings.TrimPrefix(path, "//")
	case strings.HasPrefix(target, "\x00"): // an abstract name
		return "unix", target
	}
	return "tcp", target
}
