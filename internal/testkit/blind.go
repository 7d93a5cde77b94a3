package testkit

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BlindVariable says how many inputs Blind makes; without it a few for each test.
const BlindVariable = "IWARP_TEST_BLIND"

// Blind hands try many inputs that are the seeds of the fuzz target name with changes by chance. It
// learns nothing from them, as fuzzing does, but has a hundred times as many a second. The input is
// try's until it returns.
func Blind(t *testing.T, name string, try func(t *testing.T, b []byte)) {
	t.Helper()
	n := 20_000
	if s := os.Getenv(BlindVariable); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	seeds := seedsOf(t, name)
	var b []byte
	defer func() {
		if t.Failed() {
			t.Logf("the input was %q", b)
		}
	}()
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	for range n {
		b = mutate(r, append(b[:0], seeds[r.IntN(len(seeds))]...), seeds)
		try(t, b)
	}
	t.Logf("%d inputs", n)
}

// seedsOf returns the first argument of each input in the corpus of a target.
func seedsOf(t *testing.T, name string) (seeds [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*"))
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		_, rest, _ := strings.Cut(string(text), "[]byte(")
		quoted, err := strconv.QuotedPrefix(rest)
		require.NoError(t, err, f)
		s, err := strconv.Unquote(quoted)
		require.NoError(t, err, f)
		seeds = append(seeds, []byte(s))
	}
	require.NotEmpty(t, seeds)
	return seeds
}

// mutate changes b in one to four places.
func mutate(r *rand.Rand, b []byte, seeds [][]byte) []byte {
	for range 1 + r.IntN(4) {
		if len(b) == 0 {
			b = append(b, byte(r.Uint32()))
			continue
		}
		i := r.IntN(len(b))
		switch r.IntN(6) {
		case 0:
			b[i] ^= 1 << r.IntN(8)
		case 1:
			b[i] = byte(r.Uint32())
		case 2:
			b[i] = [...]byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
		case 3:
			b = b[:i]
		case 4:
			b = append(b, byte(r.Uint32()))
		case 5:
			other := seeds[r.IntN(len(seeds))]
			copy(b[i:], other[min(i, len(other)):])
		}
	}
	return b
}
