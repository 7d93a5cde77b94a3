// Package pcapng lets the page of package debug hand out a trace of frames as a file for Wireshark:
//
//	import _ "github.com/rdmanet/iwarp/debug/pcapng"
//
// The frames are those that the connection has sent and received. What is around them is made up,
// as the page does not see it: an FPDU is a TCP segment of its own, with the true addresses and
// ports, and with numbers that run on from 1. Dissectors learn that a connection carries iWARP from
// its first two frames, which were over when the trace began; they are made up of what was
// negotiated, without private data. In a trace without payload there are zeros in its place, with a
// CRC to match; a frame that came with a wrong CRC has a wrong one there, too.
package pcapng

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/rdmanet/iwarp/internal/frames"
)

func init() { frames.Export = write }

const comment = "IP and TCP headers, their numbers, and the MPA request and reply are made up; addresses, ports and FPDUs are true."

// write writes a trace as a file.
func write(w io.Writer, t *frames.Trace) error {
	list, ended := t.Frames()
	what := comment
	if !t.Payload {
		what += " Payload is left out: there are zeros in its place, and the CRC is theirs."
	}
	if ended != "" {
		what += " The trace has ended: " + ended + "."
	}
	n, err := pcapgo.NewNgWriterInterface(w, pcapgo.NgInterface{
		Name: "iwarp", OS: runtime.GOOS, LinkType: layers.LinkTypeRaw, TimestampResolution: 9,
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: fmt.Sprintf("%s (%d), package iwarp", program(), os.Getpid()), Comment: what,
	}})
	if err != nil {
		return err
	}
	c := &connection{w: n, out: t.Local, in: t.Remote, seq: [2]uint32{1, 1}}
	for i, key := range []string{"MPA ID Req Frame", "MPA ID Rep Frame"} {
		if err := c.write(t.Began, t.Initiator == (i == 0), startup(key, &t.Traits), "made up of what was negotiated"); err != nil {
			return err
		}
	}
	var b []byte
	for i := range list {
		f := &list[i]
		b = fpdu(b, f, t.CRC)
		text := t.Read(f)
		if err := c.write(f.At, f.Out, b, cmp.Or(text.Fault, text.Note)); err != nil {
			return err
		}
	}
	return n.Flush()
}

func program() string { return filepath.Base(os.Args[0]) }

// startup returns a start-up frame of MPA (RFC 5044 §7.1).
func startup(key string, t *frames.Traits) []byte {
	const useCRC = 0x40
	var flags byte
	if t.CRC {
		flags = useCRC
	}
	return append([]byte(key), flags, byte(max(t.Revision, 1)), 0, 0)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fpdu returns all bytes of f, in the memory of b if there is room.
func fpdu(b []byte, f *frames.Frame, crc bool) []byte {
	if len(f.Data) == f.Size {
		return append(b[:0], f.Data...)
	}
	if cap(b) < f.Size {
		b = make([]byte, f.Size)
	}
	b = b[:f.Size]
	clear(b[copy(b, f.Data):])
	const crcLen = 4
	if body := b[:max(len(b)-crcLen, 0)]; crc && len(b) >= crcLen {
		sum := crc32.Checksum(body, castagnoli)
		if f.Bad {
			sum = ^sum
		}
		binary.LittleEndian.PutUint32(b[len(body):], sum)
	}
	return b
}

// A connection writes segments.
type connection struct {
	w       *pcapgo.NgWriter
	out, in netip.AddrPort // addresses of what is sent, and of what has come
	seq     [2]uint32      // of what is sent, and of what has come
	buf     gopacket.SerializeBuffer
}

func (c *connection) write(at time.Time, out bool, data []byte, note string) error {
	src, dst, way := c.out, c.in, 0
	direction := pcapgo.NgEpbFlagDirectionOutbound
	if !out {
		src, dst, way = dst, src, 1
		direction = pcapgo.NgEpbFlagDirectionInbound
	}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: c.seq[way], Ack: c.seq[1-way],
		DataOffset: tcpLen / 4, ACK: true, PSH: true, Window: 1<<16 - 1,
	}
	ip := headerOf(src.Addr(), dst.Addr(), tcpLen+len(data))
	if err := tcp.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
		return err
	}
	if v6, ok := ip.(*layers.IPv6); ok {
		ip = header6{v6}
	}
	if c.buf == nil {
		c.buf = gopacket.NewSerializeBuffer()
	}
	if err := gopacket.SerializeLayers(c.buf, gopacket.SerializeOptions{ComputeChecksums: true}, ip, tcp, gopacket.Payload(data)); err != nil {
		return err
	}
	c.seq[way] += uint32(len(data))
	b := c.buf.Bytes()
	o := pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: direction}}
	if note != "" {
		o.Comments = []string{note}
	}
	return c.w.WritePacketWithOptions(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(b), Length: len(b)}, b, o)
}

const tcpLen = 20

// headerOf returns the IP header of n bytes. The length of what is too long for one is 0, as it is
// where the interface cuts a packet, which dissectors know.
func headerOf(src, dst netip.Addr, n int) gopacket.SerializableLayer {
	const hops, v4Len, mostLen = 64, 20, 1<<16 - 1
	if src.Unmap().Is4() && dst.Unmap().Is4() {
		if n += v4Len; n > mostLen {
			n = 0
		}
		return &layers.IPv4{Version: 4, IHL: v4Len / 4, Length: uint16(n), TTL: hops, Protocol: layers.IPProtocolTCP, SrcIP: src.Unmap().AsSlice(), DstIP: dst.Unmap().AsSlice()}
	}
	if n > mostLen {
		n = 0
	}
	a, b := src.As16(), dst.As16()
	return &layers.IPv6{Version: 6, Length: uint16(n), HopLimit: hops, NextHeader: layers.IPProtocolTCP, SrcIP: a[:], DstIP: b[:]}
}

// A header6 may be in front of more than its length can say, which layers.IPv6 refuses to write.
type header6 struct{ *layers.IPv6 }

// SerializeTo implements gopacket.SerializableLayer.
func (h header6) SerializeTo(buf gopacket.SerializeBuffer, _ gopacket.SerializeOptions) error {
	const size, lengthAt, nextAt, hopsAt, srcAt, dstAt = 40, 4, 6, 7, 8, 24
	b, err := buf.PrependBytes(size)
	if err != nil {
		return err
	}
	clear(b)
	b[0] = h.Version << 4
	binary.BigEndian.PutUint16(b[lengthAt:], h.Length)
	b[nextAt], b[hopsAt] = byte(h.NextHeader), h.HopLimit
	copy(b[srcAt:], h.SrcIP)
	copy(b[dstAt:], h.DstIP)
	buf.PushLayer(h.LayerType())
	return nil
}
