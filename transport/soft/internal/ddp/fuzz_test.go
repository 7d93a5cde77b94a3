package ddp_test

import (
	"bytes"
	"testing"

	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
)

// reserved are the bits of the control byte that are lost on the way through a header.
const reserved = 0x3c

// comesBack checks that b is what it was parsed into, but for the bits that are lost.
func comesBack(t *testing.T, b, encoded []byte) {
	want := bytes.Clone(b)
	want[0] &^= reserved
	if !bytes.Equal(want, encoded) {
		t.Fatalf("% x came back as % x", want, encoded)
	}
}

func FuzzTagged(f *testing.F) { f.Fuzz(tagged) }

func tagged(t *testing.T, b []byte) {
	if h, payload, err := ddp.ParseTagged(b); err == nil {
		comesBack(t, b, append(h.Append(nil), payload...))
	}
}

func FuzzUntagged(f *testing.F) { f.Fuzz(untagged) }

func untagged(t *testing.T, b []byte) {
	if h, payload, err := ddp.ParseUntagged(b); err == nil {
		comesBack(t, b, append(h.Append(nil), payload...))
	}
}

// TestBlind has the targets of this package try far more inputs than fuzzing does.
func TestBlind(t *testing.T) {
	t.Run("FuzzTagged", func(t *testing.T) { testkit.Blind(t, "FuzzTagged", tagged) })
	t.Run("FuzzUntagged", func(t *testing.T) { testkit.Blind(t, "FuzzUntagged", untagged) })
}
