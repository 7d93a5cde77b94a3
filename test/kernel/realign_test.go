//go:build linux

package kernel

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Wireshark's dissector of MPA knows only the FPDUs that begin a segment, and TCP may cut its
// stream anywhere: where a send buffer was full, or a network makes segments of its own. So it is
// given a capture with the same streams in which each frame of MPA has a segment to itself.

// A half is one direction of a connection.
type half struct {
	srcPort, dstPort int
	first            *uint32 // sequence number before the first byte
	segments         []segment
	reset            bool // by the end that sends
	begun            bool // before the capture
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

// mpaFrames splits a stream into the request or reply and the FPDUs after it (RFC 5044, sections 4
// and 7.1). rest is a frame without an end.
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

// halves sorts packets by the directions of their connections, which are in pairs, the one that
// connects first.
func halves(packets []packet) [][2]*half {
	var all [][2]*half
	latest := make(map[[2]netip.AddrPort][2]*half)
	for _, p := range packets {
		there, back := [2]netip.AddrPort{p.src, p.dst}, [2]netip.AddrPort{p.dst, p.src}
		c, known := latest[there]
		const synAck = flagSYN | flagACK
		if opens := p.flags&synAck == flagSYN; !known || opens && (c[0].first == nil || *c[0].first != p.seq) {
			c = [2]*half{{srcPort: int(p.src.Port()), dstPort: int(p.dst.Port())}, {srcPort: int(p.dst.Port()), dstPort: int(p.src.Port())}}
			all = append(all, c)
			latest[there], latest[back] = c, [2]*half{c[1], c[0]}
		}
		c[0].add(p)
	}
	return all
}

// add adds a packet of this direction.
func (h *half) add(p packet) {
	if h.first == nil {
		first := p.seq
		if h.begun = p.flags&flagSYN == 0; h.begun {
			first--
		}
		h.first = &first
	}
	h.reset = h.reset || p.flags&flagRST != 0
	if len(p.data) > 0 {
		h.segments = append(h.segments, segment{int(p.seq - *h.first), p.data})
	}
}

// realigned writes the connections over MPA of a capture to another. There are to be no others, but
// for what is left of those that had begun before the capture. It numbers them, and tells the port
// of each server. Left out are FPDUs that siw has hashed twice, which it counts by that port.
func realigned(pcap string, want expected) (file string, servers []int, twice map[int]int, err error) {
	packets, err := readPcap(pcap)
	if err != nil {
		return "", nil, nil, err
	}
	all := halves(packets)
	twice = make(map[int]int)
	w := newPcapWriter()
	for i, c := range all {
		servers = append(servers, c[0].dstPort)
		_, here := want[c[0].dstPort]
		_, there := want[c[0].srcPort]
		if c[0].begun && !here && !there {
			continue
		}
		var frames [2][][]byte
		for j, h := range c {
			b, err := h.stream()
			if err != nil {
				return "", nil, nil, err
			}
			if !bytes.HasPrefix(b, []byte(mpaRequest)) && !bytes.HasPrefix(b, []byte(mpaReply)) {
				if len(b) > 0 && !want[c[0].dstPort].broken {
					return "", nil, nil, fmt.Errorf("port %d to %d: a stream that begins with %q", h.srcPort, h.dstPort, b[:min(len(b), 40)])
				}
				continue
			}
			var rest []byte
			frames[j], rest = mpaFrames(b)
			if len(rest) > 0 && !c[0].reset && !c[1].reset && !want[c[0].dstPort].broken {
				return "", nil, nil, fmt.Errorf("port %d to %d: the stream ends within a frame, after %d whole ones", h.srcPort, h.dstPort, len(frames[j]))
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
					if behind && want[c[0].dstPort].crc && hashedTwice(f) {
						twice[c[0].dstPort]++
						continue
					}
					if err := w.add(i, j, h, f); err != nil {
						return "", nil, nil, err
					}
				}
			}
		}
	}
	file = pcap + ".mpa"
	return file, servers, twice, os.WriteFile(file, w.Bytes(), 0o600)
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
