package rdmap_test

import (
	"bytes"
	"testing"

	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

func FuzzValidate(f *testing.F) { f.Fuzz(validate) }

func validate(t *testing.T, ulpdu []byte) {
	s, err := rdmap.Validate(ulpdu)
	if err != nil {
		if e, ok := err.(*rdmap.Error); !ok || rdmap.Lookup(e.Layer, e.Type, e.Code) != e {
			t.Fatalf("error without a code: %v", err)
		}
		if s.Payload != nil {
			t.Fatal("payload in spite of an error")
		}
		return
	}
	if !s.Op.Supported() || s.Op.Tagged() != s.Tagged {
		t.Fatalf("%v accepted, tagged %v", s.Op, s.Tagged)
	}
	var encoded []byte
	if s.Tagged {
		encoded = s.T.Append(nil)
	} else {
		encoded = s.U.Append(nil)
	}
	want := bytes.Clone(ulpdu)
	want[0] &^= 0x3c
	if encoded = append(encoded, s.Payload...); !bytes.Equal(want, encoded) {
		t.Fatalf("% x came back as % x", want, encoded)
	}
	if s.Op == rdmap.OpReadRequest {
		if _, err := rdmap.ParseReadRequest(s.Payload); err != nil {
			t.Fatal(err)
		}
	}
	if s.Op == rdmap.OpTerminate {
		if _, err := rdmap.ParseTerminate(s.Payload); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzReadRequest(f *testing.F) { f.Fuzz(parseReadRequest) }

func parseReadRequest(t *testing.T, b []byte) {
	r, err := rdmap.ParseReadRequest(b)
	if (err == nil) != (len(b) == rdmap.ReadRequestLen) {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
	if err != nil {
		return
	}
	encoded := make([]byte, rdmap.ReadRequestLen)
	if r.Put(encoded); !bytes.Equal(b, encoded) {
		t.Fatalf("% x came back as % x", b, encoded)
	}
}

func FuzzTerminate(f *testing.F) { f.Fuzz(terminate) }

func terminate(t *testing.T, b []byte) {
	term, err := rdmap.ParseTerminate(b)
	if (err == nil) != (len(b) >= rdmap.TerminateLen) {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
	if err != nil {
		return
	}
	swapped := term.Swapped()
	if twice := swapped.Swapped(); twice.Layer != swapped.Layer || twice.Type != swapped.Type {
		t.Fatal("Swapped does not start from what was received")
	}
	for _, term := range []rdmap.Terminate{term, swapped} {
		if term.String() == "" {
			t.Fatal("no text")
		}
		encoded := term.Append(nil)
		if len(encoded) > rdmap.MaxTerminateLen {
			t.Fatalf("%d bytes", len(encoded))
		}
		again, err := rdmap.ParseTerminate(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if reencoded := again.Append(nil); !bytes.Equal(encoded, reencoded) {
			t.Fatalf("% x came back as % x", encoded, reencoded)
		}
	}
}

// TestBlind has the targets of this package try far more inputs than fuzzing does.
func TestBlind(t *testing.T) {
	t.Run("FuzzValidate", func(t *testing.T) { testkit.Blind(t, "FuzzValidate", validate) })
	t.Run("FuzzReadRequest", func(t *testing.T) { testkit.Blind(t, "FuzzReadRequest", parseReadRequest) })
	t.Run("FuzzTerminate", func(t *testing.T) { testkit.Blind(t, "FuzzTerminate", terminate) })
}
