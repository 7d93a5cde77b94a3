package soft

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/frames"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// FuzzTrace records frames that a peer has sent, and says what they mean. Without payload no more
// is kept than headers and words.
func FuzzTrace(f *testing.F) {
	seal := func(b ...byte) []byte { return append([]byte{0, byte(len(b))}, b...) }
	tagged := append([]byte{0xc1, 0x40}, make([]byte, 12)...)
	untagged := append([]byte{0x41, 0x43}, make([]byte, 16)...)
	terminate := append([]byte{0x41, 0x47}, make([]byte, 24)...)
	request := append([]byte{0x41, 0x41}, make([]byte, 44)...)
	for _, b := range [][]byte{nil, {0}, {0, 2}, {0, 0, 0xc1, 0x40}, {255, 255, 0x41, 0x47}, seal(tagged...), seal(append(tagged, "payload"...)...), seal(untagged...),
		seal(append(untagged, 1, 2, 3, 4)...), seal(append(untagged, 1, 2, 3, 4, 5)...), seal(terminate...), seal(request...), seal(request[:20]...), seal(terminate[:19]...), seal(tagged[:5]...)} {
		f.Add(b, false)
		f.Add(append(b, make([]byte, 30)...), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, bad bool) {
		n := headLen(b)
		require.LessOrEqual(t, n, len(b))
		require.LessOrEqual(t, n, mpa.LengthLen+ddp.UntaggedLen+rdmap.MaxTerminateLen)
		short := readFPDU(&frames.Frame{Data: b[:n], Size: len(b), Bad: bad})
		long := readFPDU(&frames.Frame{Data: bytes.Clone(b), Size: len(b), Bad: bad})
		require.NotEmpty(t, short.Op)
		require.False(t, bad && short.Fault == "")
		if short.Fault == "" && long.Fault == "" {
			require.Equal(t, long, short, "what a frame means is in what is kept")
		}
		require.LessOrEqual(t, len(short.Word), wordLen)
	})
}
