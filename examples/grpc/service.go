package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rdmanet/iwarp/examples/grpc/blobpb"
)

const (
	chunkSize = 256 << 10
	maxSize   = 16 << 30
)

// blobs is the service. Nothing in it knows what it runs over.
type blobs struct {
	blobpb.UnimplementedBlobsServer
}

func (blobs) Checksum(_ context.Context, b *blobpb.Blob) (*blobpb.Summary, error) {
	r, err := content(b)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	n, err := io.Copy(h, r)
	return &blobpb.Summary{Size: n, Sha256: h.Sum(nil)}, err
}

func (blobs) Download(b *blobpb.Blob, to grpc.ServerStreamingServer[blobpb.Chunk]) error {
	r, err := content(b)
	if err != nil {
		return err
	}
	return send(r, to.Send)
}

func (blobs) Upload(from grpc.ClientStreamingServer[blobpb.Chunk, blobpb.Summary]) error {
	s, err := receive(from.Recv)
	if err != nil {
		return err
	}
	return from.SendAndClose(s)
}

// content returns the bytes of b.
func content(b *blobpb.Blob) (io.Reader, error) {
	if b.GetSize() < 0 || b.GetSize() > maxSize {
		return nil, status.Errorf(codes.InvalidArgument, "size %d is not within 0 and %d", b.GetSize(), int64(maxSize))
	}
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], b.GetSeed())
	return io.LimitReader(rand.NewChaCha8(seed), b.GetSize()), nil
}

// send sends all of r in chunks.
func send(r io.Reader, f func(*blobpb.Chunk) error) error {
	for {
		// gRPC may still hold the last chunk, so each has a buffer of its own.
		buf := make([]byte, chunkSize)
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := f(&blobpb.Chunk{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receive takes chunks until the end of the stream.
func receive(f func() (*blobpb.Chunk, error)) (*blobpb.Summary, error) {
	h := sha256.New()
	s := &blobpb.Summary{}
	for {
		c, err := f()
		if errors.Is(err, io.EOF) {
			s.Sha256 = h.Sum(nil)
			return s, nil
		}
		if err != nil {
			return nil, err
		}
		h.Write(c.GetData())
		s.Size += int64(len(c.GetData()))
	}
}

func equal(a, b *blobpb.Summary) bool {
	return a.GetSize() == b.GetSize() && bytes.Equal(a.GetSha256(), b.GetSha256())
}
