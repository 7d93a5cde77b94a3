package mpa_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

func FuzzParseRequest(f *testing.F) { f.Fuzz(frame(false)) }

func FuzzParseReply(f *testing.F) { f.Fuzz(frame(true)) }

func frame(reply bool) func(t *testing.T, b []byte) {
	return func(t *testing.T, b []byte) {
		total, headerErr := mpa.ParseHeader(b, reply)
		frame, err := mpa.Parse(b, reply)
		if err != nil {
			if headerErr == nil && len(b) == total {
				t.Fatalf("good header, whole frame, yet %v", err)
			}
			return
		}
		if headerErr != nil || len(b) != total || total > mpa.MaxFrameLen {
			t.Fatalf("parsed in spite of header error %v, length %d of %d", headerErr, len(b), total)
		}
		if !reply && !mpa.IsRequestPrefix(b) {
			t.Fatal("parsed, but not a request prefix")
		}
		encoded, err := frame.Append(nil)
		if err != nil {
			t.Fatalf("%+v cannot be sent: %v", frame, err)
		}
		if len(encoded) != len(b) || !bytes.Equal(encoded[mpa.FrameHeaderLen:], b[mpa.FrameHeaderLen:]) {
			t.Fatalf("sent as % x, received as % x", encoded, b)
		}
		again, err := mpa.Parse(encoded, reply)
		if err != nil || !reflect.DeepEqual(frame, again) {
			t.Fatalf("%+v came back as %+v, %v", frame, again, err)
		}
	}
}

// FuzzFPDUStream cuts a stream in two ways: what is delivered must not depend on it.
func FuzzFPDUStream(f *testing.F) { f.Fuzz(fpduStream) }

func fpduStream(t *testing.T, stream []byte, crc bool, step uint8) {
	whole := wiretest.Split(crc, stream)
	pieces := &wiretest.Splitter{CRC: crc}
	for rest := stream; len(rest) > 0; {
		n := min(int(step)+1, len(rest))
		pieces.Feed(rest[:n])
		rest = rest[n:]
	}
	if whole.Err != pieces.Err || whole.Pending() != pieces.Pending() {
		t.Fatalf("whole: %v, %d pending; in pieces: %v, %d", whole.Err, whole.Pending(), pieces.Err, pieces.Pending())
	}
	if !reflect.DeepEqual(whole.Segments, pieces.Segments) {
		t.Fatalf("whole: %+v; in pieces: %+v", whole.Segments, pieces.Segments)
	}
	delivered := 0
	for _, s := range whole.Segments {
		delivered += len(s.Payload)
	}
	if delivered > len(stream) {
		t.Fatalf("%d bytes delivered of %d", delivered, len(stream))
	}
}

// TestBlind has the targets of this package try far more inputs than fuzzing does.
func TestBlind(t *testing.T) {
	t.Run("FuzzParseRequest", func(t *testing.T) { testkit.Blind(t, "FuzzParseRequest", frame(false)) })
	t.Run("FuzzParseReply", func(t *testing.T) { testkit.Blind(t, "FuzzParseReply", frame(true)) })
	t.Run("FuzzFPDUStream", func(t *testing.T) {
		testkit.Blind(t, "FuzzFPDUStream", func(t *testing.T, b []byte) { fpduStream(t, b, len(b)%2 == 0, uint8(len(b)/2)) })
	})
}
