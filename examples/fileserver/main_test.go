package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
)

func TestMain(m *testing.M) {
	os.Unsetenv("IWARP_OFFLOAD") // which would change the server's policy
	leak.Main(m)
}

func TestBothEnds(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir)
	var out testkit.Output
	require.NoError(t, command(t.Context(), []string{"-size", "3000000"}, &out))
	s := out.String()
	memory := 0
	if runtime.GOOS == "linux" {
		memory = 2
	}
	require.Equal(t, memory, strings.Count(s, "over iWARP (transport shm"), s)
	require.Equal(t, 4-memory, strings.Count(s, "over iWARP (transport soft"), s)
	require.Equal(t, 2, strings.Count(s, "over plain TCP (reason: "), s)
	require.Equal(t, 3, strings.Count(s, "received 3.0 MB"), s)
	require.Equal(t, 3, strings.Count(s, "SHA-256 agrees"), s)
	require.Equal(t, 3, strings.Count(s, "100 %"), s)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "the random file was left behind")
}

// TestSeparately runs the two ends by two commands, as one would on two hosts.
func TestSeparately(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, generate(filepath.Join(dir, "some file.bin"), 1<<20))
	ctx, stop := context.WithCancel(t.Context())
	var out testkit.Output
	served := make(chan error, 1)
	go func() { served <- command(ctx, []string{"-listen", "127.0.0.1:0", "-dir", dir}, &out) }()
	var address string
	require.Eventually(t, func() bool {
		m := regexp.MustCompile(`serving on (\S+),`).FindStringSubmatch(out.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	}, 10*time.Second, time.Millisecond)

	for _, policy := range []string{"require", "prefer", "never", "auto"} {
		saved := filepath.Join(t.TempDir(), "saved")
		require.NoError(t, command(t.Context(), []string{"-connect", address, "-file", "some file.bin", "-save", saved, "-offload", policy}, &testkit.Output{}))
		want, err := os.ReadFile(filepath.Join(dir, "some file.bin"))
		require.NoError(t, err)
		got, err := os.ReadFile(saved)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
	iwarp := 2
	if runtime.GOOS == "linux" {
		iwarp = 3 // with "auto" through shared memory
	}
	require.Equal(t, iwarp, strings.Count(out.String(), "over iWARP"), out.String())
	require.ErrorContains(t, command(t.Context(), []string{"-connect", address, "-file", "nothing"}, &testkit.Output{}), "404")

	stop()
	require.NoError(t, <-served)
	require.ErrorContains(t, command(t.Context(), []string{"-connect", address}, &testkit.Output{}), "refused")
}

func TestOneFileHidesItsNeighbours(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, generate(filepath.Join(dir, "shown"), 10))
	require.NoError(t, generate(filepath.Join(dir, "hidden"), 10))
	files := oneFile(filepath.Join(dir, "shown"))
	f, err := files.Open("/shown")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	for _, name := range []string{"/hidden", "/", "/../hidden", "shown", ""} {
		_, err := files.Open(name)
		require.ErrorIs(t, err, os.ErrNotExist, name)
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{
		{"stray"},
		{"-no-such-flag"},
		{"-offload", "perhaps"},
		{"-file", "/no/such/file"},
		{"-listen", "not an address"},
	} {
		require.Error(t, command(t.Context(), args, &testkit.Output{}), args)
	}
}
