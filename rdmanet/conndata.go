package rdmanet

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	version     = 1
	connDataLen = 40

	flagBigEndian = 1 << 0
	flagIomap     = 1 << 1

	tableEntries = 2
	tableLen     = tableEntries * sgeLen
)

// connData is the private data of the connection request and of its answer: what an end tells of
// its memory. Integers are big-endian.
type connData struct {
	order   byteOrder // of the words and table entries that the sender writes and reads
	credits uint16    // messages that may be sent to it before it says more
	table   sge       // where it learns of space; length counts entries of 16 bytes
	ring    sge       // the first space
	iomap   int       // entries behind the table, for exposed memory
	ext     *extension
}

// append appends the encoding of d to b.
func (d *connData) append(b []byte) []byte {
	flags := byte(flagIomap)
	if d.order == bigEndian {
		flags |= flagBigEndian
	}
	b = append(b, version, flags)
	b = binary.BigEndian.AppendUint16(b, d.credits)
	b = append(b, 0, 0, 0, scale(d.iomap))
	for _, s := range []sge{d.table, d.ring} {
		b = binary.BigEndian.AppendUint64(b, s.addr)
		b = binary.BigEndian.AppendUint32(b, s.key)
		b = binary.BigEndian.AppendUint32(b, s.length)
	}
	if d.ext != nil {
		b = d.ext.append(b)
	}
	return b
}

// parseConnData decodes and checks a peer's private data. What follows the first 40 bytes is only
// looked at if it is an extension of this package.
func parseConnData(b []byte) (*connData, error) {
	if len(b) < connDataLen {
		return nil, fmt.Errorf("private data of %d bytes is too short for rsocket connection data", len(b))
	}
	if b[0] != version {
		return nil, fmt.Errorf("peer speaks rsocket version %d; only version 1 is supported", b[0])
	}
	d := &connData{
		order:   b[1]&flagBigEndian != 0,
		credits: binary.BigEndian.Uint16(b[2:]),
		table:   bigEndian.sge(b[8:]),
		ring:    bigEndian.sge(b[24:]),
	}
	if b[1]&flagIomap != 0 {
		d.iomap = unscale(b[7])
	}
	if d.table.length < tableEntries {
		return nil, fmt.Errorf("peer has a table of %d entries; at least 2 are needed", d.table.length)
	}
	if wraps(d.table.addr, sgeLen*uint64(d.table.length)+iomapEntryLen*uint64(d.iomap)) || wraps(d.ring.addr, uint64(d.ring.length)) {
		return nil, errors.New("peer's memory reaches beyond 64 bits of address")
	}
	var err error
	d.ext, err = parseExtension(b[connDataLen:])
	if err != nil {
		return nil, err
	}
	if d.ext != nil && d.ext.wholeRing && wraps(d.ring.addr, 2*uint64(d.ring.length)) {
		return nil, errors.New("peer's memory reaches beyond 64 bits of address")
	}
	return d, nil
}
