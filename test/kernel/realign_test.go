//go:build linux

package kernel

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Wireshark's dissector of MPA knows only the FPDUs that begin a segment, and TCP may cut its stream anywhere: where a send buffer was full, or
// a network makes segments of its own. So it is given a capture with the same streams in which each frame of MPA has a segment to itself.

// A half is one direction of a connection.
type half struct {
	srcPort, dstPort int
	segments         []segment
	reset            bool // by the end that sends
}

type segment struct {
	seq  int // relative, with 1 for the first byte
	data []byte
}

// stream puts the segments together.
func (h *half) stream() ([]byte, error) {
	slices.SortStableFunc(h.segments, func(x, y segment) int { return cmp.Compare(x.seq, y.seq) })
	var all []byte
	for _, s := range h.segments {
		known := 1 + len(all) - s.seq
		if known < 0 {
			return nil, fmt.Errorf("port %d to %d: the bytes from %d to %d were not captured", h.srcPort, h.dstPort, len(all), s.seq-1)
		}
		if known < len(s.data) {
			all = append(all, s.data[known:]...)
		}
	}
	return all, nil
}

const (
	mpaKeyLen    = 16
	mpaHeaderLen = mpaKeyLen + 4
	mpaRequest   = "MPA ID Req Frame"
	mpaReply     = "MPA ID Rep Frame"
)

// mpaFrames splits a stream into the request or reply and the FPDUs behind it (RFC 5044, sections 4 and 7.1). rest is a frame without an end.
func mpaFrames(b []byte) (frames [][]byte, rest []byte) {
	length := func(b []byte) int {
		if len(frames) == 0 {
			if len(b) < mpaHeaderLen {
				return mpaHeaderLen
			}
			return mpaHeaderLen + int(binary.BigEndian.Uint16(b[mpaKeyLen+2:]))
		}
		if len(b) < 2 {
			return 2
		}
		const crc = 4
		return (2+int(binary.BigEndian.Uint16(b))+3)&^3 + crc
	}
	for len(b) > 0 {
		n := length(b)
		if n > len(b) {
			return frames, b
		}
		frames, b = append(frames, b[:n]), b[n:]
	}
	return frames, nil
}

// halves reads the directions of the connections of a capture, in pairs, in the order in which they begin.
func halves(pcap string) ([][2]*half, error) {
	said, err := tshark(pcap, "-d", onlyTCP, "-Y", "tcp", "-T", "fields",
		"-e", "tcp.stream", "-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "tcp.seq", "-e", "tcp.flags.reset", "-e", "tcp.payload")
	if err != nil {
		return nil, err
	}
	var all [][2]*half
	for line := range strings.Lines(said) {
		line = strings.TrimSuffix(line, "\n")
		tab := strings.LastIndexByte(line, '\t') + 1
		var stream, src, dst, seq, reset int
		if _, err := fmt.Sscan(line[:tab], &stream, &src, &dst, &seq, &reset); err != nil {
			return nil, fmt.Errorf("%q: %w", line[:tab], err)
		}
		for len(all) <= stream {
			all = append(all, [2]*half{{srcPort: src, dstPort: dst}, {srcPort: dst, dstPort: src}})
		}
		h := all[stream][0]
		if h.srcPort != src {
			h = all[stream][1]
		}
		h.reset = h.reset || reset == 1
		data, err := hex.DecodeString(line[tab:])
		if err != nil {
			return nil, err
		}
		if len(data) > 0 {
			h.segments = append(h.segments, segment{seq, data})
		}
	}
	return all, nil
}

// realigned writes the connections over MPA of a capture to another. There are to be no others.
func realigned(pcap string) (file string, err error) {
	all, err := halves(pcap)
	if err != nil {
		return "", err
	}
	w := newPcapWriter()
	for i, c := range all {
		var frames [2][][]byte
		for j, h := range c {
			b, err := h.stream()
			if err != nil {
				return "", err
			}
			if !bytes.HasPrefix(b, []byte(mpaRequest)) && !bytes.HasPrefix(b, []byte(mpaReply)) {
				if len(b) > 0 {
					return "", fmt.Errorf("port %d to %d: a stream that begins with %q", h.srcPort, h.dstPort, b[:min(len(b), 40)])
				}
				continue
			}
			var rest []byte
			frames[j], rest = mpaFrames(b)
			if len(rest) > 0 && !c[0].reset && !c[1].reset {
				return "", fmt.Errorf("port %d to %d: the stream ends within a frame, after %d whole ones", h.srcPort, h.dstPort, len(frames[j]))
			}
		}
		// The dissector is to see the request and the reply before the rest.
		for _, behind := range []bool{false, true} {
			for j, h := range c {
				first := min(1, len(frames[j]))
				some := frames[j][:first]
				if behind {
					some = frames[j][first:]
				}
				for _, f := range some {
					if err := w.add(i, j, h, f); err != nil {
						return "", err
					}
				}
			}
		}
	}
	file = pcap + ".mpa"
	return file, os.WriteFile(file, w.Bytes(), 0o600)
}

// A pcapWriter makes a capture of TCP segments over IPv4.
type pcapWriter struct {
	bytes.Buffer
	seq map[[2]int]uint32
}

func newPcapWriter() *pcapWriter {
	w := &pcapWriter{seq: make(map[[2]int]uint32)}
	const magic, snapLen, rawIP = 0xa1b2c3d4, 1 << 18, 101
	w.put(uint32(magic), uint16(2), uint16(4), uint64(0), uint32(snapLen), uint32(rawIP))
	return w
}

func (w *pcapWriter) put(fields ...any) {
	for _, f := range fields {
		_ = binary.Write(w, binary.BigEndian, f) // a Buffer takes all
	}
}

// add appends a segment of direction way of connection number n, which gets addresses of its own, so that no two share their ports.
func (w *pcapWriter) add(n, way int, h *half, data []byte) error {
	const headers, version4, ttl, tcp, dataOffset, pshAck = 20 + 20, 0x45, 64, 6, 5 << 4, 0x18
	size := headers + len(data)
	if size > 1<<16-1 || n > 1<<16-1 {
		return fmt.Errorf("a frame of %d bytes of connection %d", len(data), n)
	}
	ends := [2]uint32{10<<24 | uint32(n), 11<<24 | uint32(n)}
	key := [2]int{n, way}
	w.put(uint64(0), uint32(size), uint32(size))
	w.put(uint8(version4), uint8(0), uint16(size), uint32(0), uint8(ttl), uint8(tcp), uint16(0), ends[way], ends[1-way])
	w.put(uint16(h.srcPort), uint16(h.dstPort), 1+w.seq[key], 1+w.seq[[2]int{n, 1 - way}], uint8(dataOffset), uint8(pshAck), uint16(1<<16-1), uint32(0))
	w.Write(data)
	w.seq[key] += uint32(len(data))
	return nil
}

// The streams that Wireshark reads are put together here, which is checked without a capture.
func TestRealign(t *testing.T) {
	request := append([]byte(mpaRequest), 0, 2, 0, 3, 'a', 'b', 'c')
	fpdu := func(n int) []byte {
		b := make([]byte, (2+n+3)&^3+4)
		binary.BigEndian.PutUint16(b, uint16(n))
		return b
	}
	var whole []byte
	want := [][]byte{request, fpdu(0), fpdu(1), fpdu(2), fpdu(3), fpdu(1000)}
	for _, f := range want {
		whole = append(whole, f...)
	}
	cut := func(from, to int) segment { return segment{1 + from, whole[from:to]} }
	end := len(whole)

	for _, c := range []struct {
		name     string
		segments []segment
	}{
		{"one segment", []segment{cut(0, end)}},
		{"cut within frames", []segment{cut(0, 5), cut(5, 24), cut(24, 200), cut(200, end)}},
		{"out of order", []segment{cut(24, end), cut(0, 24)}},
		{"sent again", []segment{cut(0, 100), cut(0, 50), cut(50, end), cut(80, 120)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := (&half{segments: c.segments}).stream()
			require.NoError(t, err)
			frames, rest := mpaFrames(b)
			require.Equal(t, want, frames)
			require.Empty(t, rest)
		})
	}
	t.Run("gap", func(t *testing.T) {
		_, err := (&half{segments: []segment{cut(0, 10), cut(11, end)}}).stream()
		require.ErrorContains(t, err, "the bytes from 10 to 11 were not captured")
	})
	for n := range whole {
		frames, rest := mpaFrames(whole[:n])
		kept := 0
		for _, f := range frames {
			kept += len(f)
		}
		require.Equal(t, n, kept+len(rest))
		require.Less(t, len(frames), len(want))
	}
}
