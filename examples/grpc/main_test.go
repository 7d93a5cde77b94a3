package main

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rdmanet/iwarp/examples/grpc/blobpb"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
)

func TestMain(m *testing.M) {
	os.Unsetenv("IWARP_OFFLOAD") // which would change the server's policy
	leak.Main(m)
}

func TestBothEnds(t *testing.T) {
	var out testkit.Output
	require.NoError(t, command(t.Context(), []string{"-size", "3000000"}, &out))
	s := out.String()
	require.Equal(t, 2, strings.Count(s, "over iWARP (transport soft"), s)
	require.Equal(t, 2, strings.Count(s, "over plain TCP (reason: "), s)
	require.Equal(t, 2, strings.Count(s, "download stream: 3.0 MB"), s)
	require.Equal(t, 2, strings.Count(s, "upload stream: 3.0 MB"), s)
	require.Equal(t, 4, strings.Count(s, "SHA-256 agrees"), s)
}

// TestSeparately runs the two ends by two commands, as one would on two hosts.
func TestSeparately(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var out testkit.Output
	served := make(chan error, 1)
	go func() { served <- command(ctx, []string{"-listen", "127.0.0.1:0"}, &out) }()
	var address string
	require.Eventually(t, func() bool {
		m := regexp.MustCompile(`serving on (\S+),`).FindStringSubmatch(out.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	}, 10*time.Second, time.Millisecond)

	for _, policy := range []string{"require", "prefer", "never", "auto"} {
		require.NoError(t, command(t.Context(), []string{"-connect", address, "-size", "500000", "-offload", policy}, &testkit.Output{}))
	}
	require.Equal(t, 2, strings.Count(out.String(), "over iWARP"), out.String())

	stop()
	require.NoError(t, <-served)
	err := command(t.Context(), []string{"-connect", address}, &testkit.Output{})
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
}

func TestContentFollowsFromItsSeed(t *testing.T) {
	sum := func(b *blobpb.Blob) *blobpb.Summary {
		s, err := blobs{}.Checksum(t.Context(), b)
		require.NoError(t, err)
		return s
	}
	one := sum(&blobpb.Blob{Size: 1000, Seed: 1})
	require.True(t, equal(one, sum(&blobpb.Blob{Size: 1000, Seed: 1})))
	require.False(t, equal(one, sum(&blobpb.Blob{Size: 1000, Seed: 2})))
	require.False(t, equal(one, sum(&blobpb.Blob{Size: 1001, Seed: 1})))
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{"stray"}, {"-no-such-flag"}, {"-offload", "perhaps"}, {"-listen", "not an address"}} {
		require.Error(t, command(t.Context(), args, &testkit.Output{}), args)
	}
	for _, size := range []int64{-1, maxSize + 1} {
		_, err := blobs{}.Checksum(t.Context(), &blobpb.Blob{Size: size})
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	}
}
