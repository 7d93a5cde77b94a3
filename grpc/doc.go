// Package iwarpgrpc has gRPC know which path its connections take. A client and a server become
//
//	conn, err := grpc.NewClient(target, iwarpgrpc.DialOptions(&iwarp.Dialer{}, creds)...)
//
//	l, err := iwarp.Listen("tcp", ":9090")
//	server := grpc.NewServer(iwarpgrpc.ServerOption(creds))
//	err = server.Serve(l)
//
// and a handler asks FromContext. [Counter] counts RPCs by path.
//
// gRPC itself needs none of this to use iWARP: grpc.WithContextDialer(iwarp.ContextDialer) and the
// listener are enough.
package iwarpgrpc
