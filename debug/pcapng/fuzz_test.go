package pcapng

import (
	"bytes"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/frames"
)

// A recording has the frames that it is given.
type recording struct{ frames.Traits }

func (r *recording) SwapTrace(_, _ *frames.Trace) bool { return true }
func (r *recording) FrameTraits() frames.Traits        { return r.Traits }
func (r *recording) FrameReader() func(*frames.Frame) frames.Text {
	return func(f *frames.Frame) frames.Text { return frames.Text{Note: string(f.Data)} }
}

// FuzzWrite writes frames as a peer may have sent them. The library must read the file, with a
// packet for each of them.
func FuzzWrite(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		f.Add(v6, true, uint8(2), []byte("\x00\x12\x41\x43"), uint16(24), false)
		f.Add(v6, false, uint8(0), []byte{}, uint16(0), true)
		f.Add(v6, true, uint8(255), bytes.Repeat([]byte{0xff}, 70), uint16(65535), true)
		f.Add(v6, true, uint8(1), []byte("\xff\xfe"), uint16(3), true)
	}
	f.Fuzz(func(t *testing.T, v6, crc bool, revision uint8, data []byte, size uint16, bad bool) {
		local, remote := netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:50000")
		if v6 {
			local = netip.MustParseAddrPort("[2001:db8::1]:80")
		}
		r := &recording{frames.Traits{Revision: int(revision), CRC: crc, Initiator: bad}}
		frames.Find = func(_, _ netip.AddrPort) (frames.Source, error) { return r, nil }
		tr, err := frames.Start(local, remote, frames.Limits{Frames: 10, Time: time.Minute})
		require.NoError(t, err)
		defer tr.Stop()
		for _, out := range []bool{true, false} {
			tr.Add(out, bad, max(int(size), len(data)), data)
		}
		var file bytes.Buffer
		require.NoError(t, write(&file, tr))
		p, err := pcapgo.NewNgReader(&file, pcapgo.DefaultNgReaderOptions)
		require.NoError(t, err)
		n := 0
		for ; ; n++ {
			b, _, err := p.ReadPacketData()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.NotEmpty(t, b)
		}
		require.Equal(t, 4, n)
	})
}
