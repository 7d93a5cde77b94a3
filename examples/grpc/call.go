package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/examples/grpc/blobpb"
)

// call makes one call of each kind to the server at address and checks what comes back.
func call(ctx context.Context, out io.Writer, address string, size int64, policy iwarp.Offload) (err error) {
	fmt.Fprintf(out, "calling with policy %v\n", policy)

	// This is all that a gRPC client needs to use iWARP. With the default policy it is even
	// shorter: grpc.WithContextDialer(iwarp.ContextDialer).
	dialer := &iwarp.Dialer{Offload: policy}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, "tcp", address)
			if err == nil {
				fmt.Fprintf(out, "  client: connected from %v over %s\n", c.LocalAddr(), describe(c))
			}
			return c, err
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	client := blobpb.NewBlobsClient(conn)
	blob := &blobpb.Blob{Size: size, Seed: uint64(time.Now().UnixNano())}

	start := time.Now()
	want, err := client.Checksum(ctx, blob)
	if err != nil {
		return fmt.Errorf("checksum: %w", err)
	}
	fmt.Fprintf(out, "  unary call: SHA-256 %x in %v\n", want.GetSha256(), time.Since(start).Round(time.Millisecond))

	for _, stream := range []struct {
		name string
		run  func(context.Context, blobpb.BlobsClient, *blobpb.Blob) (*blobpb.Summary, error)
	}{{"download", download}, {"upload", upload}} {
		start := time.Now()
		got, err := stream.run(ctx, client, blob)
		if err != nil {
			return fmt.Errorf("%s: %w", stream.name, err)
		}
		took := time.Since(start)
		if !equal(got, want) {
			return fmt.Errorf("%s: %d bytes arrived with SHA-256 %x, not %d bytes with %x",
				stream.name, got.GetSize(), got.GetSha256(), want.GetSize(), want.GetSha256())
		}
		mb := float64(got.GetSize()) / 1e6
		fmt.Fprintf(out, "  %s stream: %.1f MB in %v, %.0f MB/s, SHA-256 agrees\n", stream.name, mb, took.Round(time.Millisecond), mb/took.Seconds())
	}
	return nil
}

func download(ctx context.Context, client blobpb.BlobsClient, b *blobpb.Blob) (*blobpb.Summary, error) {
	stream, err := client.Download(ctx, b)
	if err != nil {
		return nil, err
	}
	return receive(stream.Recv)
}

func upload(ctx context.Context, client blobpb.BlobsClient, b *blobpb.Blob) (*blobpb.Summary, error) {
	r, err := content(b)
	if err != nil {
		return nil, err
	}
	stream, err := client.Upload(ctx)
	if err != nil {
		return nil, err
	}
	// io.EOF means that the server has ended the stream; why is in the answer.
	if err := send(r, stream.Send); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream.CloseAndRecv()
}
