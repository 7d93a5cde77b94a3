//go:build linux

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
)

// The parts of files of captures and of the headers in them that these tests have to do with.
const (
	pcapMagic      = 0xa1b2c3d4
	pcapHeaderLen  = 24
	pcapRecordLen  = 16
	linkEthernet   = 1
	linkRawIP      = 101
	ethernetLen    = 14
	ipv4Len        = 20
	ipv6Len        = 40
	tcpLen         = 20
	protocolTCP    = 6
	flagSYN        = 0x02
	flagRST        = 0x04
	flagPSH        = 0x08
	flagACK        = 0x10
	maxIPv4Len     = 1<<16 - 1
	maxConnections = 1 << 24
)

// A packet is a TCP segment of a capture.
type packet struct {
	src, dst netip.AddrPort
	seq      uint32
	flags    byte
	data     []byte
}

// readPcap reads a capture of TCP on Ethernet, on loopback, which is the same, or of IP alone.
func readPcap(file string) ([]packet, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(b) < pcapHeaderLen {
		return nil, fmt.Errorf("%s: a capture of %d bytes", file, len(b))
	}
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(b) != pcapMagic {
		order = binary.BigEndian
	}
	link := order.Uint32(b[20:])
	var all []packet
	for b = b[pcapHeaderLen:]; len(b) >= pcapRecordLen; {
		n, whole := int(order.Uint32(b[8:])), int(order.Uint32(b[12:]))
		b = b[pcapRecordLen:]
		if n > len(b) || n != whole {
			return nil, fmt.Errorf("%s: %d bytes of a packet of %d", file, min(n, len(b)), whole)
		}
		p, err := parsePacket(link, b[:n])
		if err != nil {
			return nil, fmt.Errorf("%s: packet %d: %w", file, len(all), err)
		}
		all, b = append(all, p), b[n:]
	}
	return all, nil
}

func parsePacket(link uint32, b []byte) (p packet, err error) {
	odd := errors.New("no TCP over IP")
	if link == linkEthernet {
		if len(b) < ethernetLen {
			return p, odd
		}
		b = b[ethernetLen:]
	}
	var src, dst netip.Addr
	switch {
	case len(b) >= ipv4Len && b[0]>>4 == 4 && b[9] == protocolTCP:
		src, dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if total < header || total > len(b) {
			return p, odd
		}
		b = b[header:total]
	case len(b) >= ipv6Len && b[0]>>4 == 6 && b[6] == protocolTCP:
		src, dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		total := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) {
			return p, odd
		}
		b = b[ipv6Len:total]
	default:
		return p, odd
	}
	if len(b) < tcpLen || len(b) < int(b[12]>>4)*4 {
		return p, odd
	}
	p.src, p.dst = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	p.seq, p.flags, p.data = binary.BigEndian.Uint32(b[4:]), b[13], b[int(b[12]>>4)*4:]
	return p, nil
}

// A pcapWriter makes a capture of TCP segments over IPv4.
type pcapWriter struct {
	bytes.Buffer
	seq map[[2]int]uint32
}

func newPcapWriter() *pcapWriter {
	w := &pcapWriter{seq: make(map[[2]int]uint32)}
	const snapLen = 1 << 18
	w.put(uint32(pcapMagic), uint16(2), uint16(4), uint64(0), uint32(snapLen), uint32(linkRawIP))
	return w
}

func (w *pcapWriter) put(fields ...any) {
	for _, f := range fields {
		_ = binary.Write(w, binary.BigEndian, f) // a Buffer takes all
	}
}

// add appends a segment of direction way of connection number n, which gets addresses of its own,
// so that no two share their ports.
func (w *pcapWriter) add(n, way int, h *half, data []byte) error {
	const version4, ttl, dataOffset = 0x45, 64, tcpLen / 4 << 4
	size := ipv4Len + tcpLen + len(data)
	if size > maxIPv4Len || n >= maxConnections {
		return fmt.Errorf("a frame of %d bytes of connection %d", len(data), n)
	}
	ends := [2]uint32{10<<24 | uint32(n), 11<<24 | uint32(n)}
	key := [2]int{n, way}
	w.put(uint64(0), uint32(size), uint32(size))
	w.put(uint8(version4), uint8(0), uint16(size), uint32(0), uint8(ttl), uint8(protocolTCP), uint16(0), ends[way], ends[1-way])
	w.put(uint16(h.srcPort), uint16(h.dstPort), 1+w.seq[key], 1+w.seq[[2]int{n, 1 - way}], uint8(dataOffset), uint8(flagPSH|flagACK), uint16(1<<16-1), uint32(0))
	w.Write(data)
	w.seq[key] += uint32(len(data))
	return nil
}
