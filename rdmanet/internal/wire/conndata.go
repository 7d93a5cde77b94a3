package wire

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
)

// TableEntries is how many entries for space our table has, and a peer's has at least.
const (
	TableEntries = 2
	TableLen     = TableEntries * SGELen // bytes
)

// ConnData is the private data of the connection request and of its answer: what an end says about
// its memory. Integers are big-endian.
type ConnData struct {
	Order   Order  // of the words and table entries that the sender writes and reads
	Credits uint16 // messages that may be sent to it before it says more
	Table   SGE    // where it learns of space; Length counts entries of 16 bytes
	Ring    SGE    // the first space
	Iomap   int    // entries after the table, for exposed memory
	Ext     *Extension
}

// Append appends the encoding of d to b.
func (d *ConnData) Append(b []byte) []byte {
	flags := byte(flagIomap)
	if d.Order == bigEndian {
		flags |= flagBigEndian
	}
	b = append(b, version, flags)
	b = binary.BigEndian.AppendUint16(b, d.Credits)
	b = append(b, 0, 0, 0, scale(d.Iomap))
	for _, s := range []SGE{d.Table, d.Ring} {
		b = binary.BigEndian.AppendUint64(b, s.Addr)
		b = binary.BigEndian.AppendUint32(b, s.Key)
		b = binary.BigEndian.AppendUint32(b, s.Length)
	}
	if d.Ext != nil {
		b = d.Ext.Append(b)
	}
	return b
}

// ParseConnData decodes and checks a peer's private data. What follows the first 40 bytes is
// ignored unless it is an Extension.
func ParseConnData(b []byte) (*ConnData, error) {
	d := new(ConnData)
	if err := d.Parse(b, new(Extension)); err != nil {
		return nil, err
	}
	return d, nil
}

// Parse is ParseConnData with memory for the results. It sets Ext to ext or nil.
func (d *ConnData) Parse(b []byte, ext *Extension) error {
	if len(b) < connDataLen {
		return fmt.Errorf("private data of %d bytes is too short for rsocket connection data", len(b))
	}
	if b[0] != version {
		return fmt.Errorf("peer speaks rsocket version %d; only version 1 is supported", b[0])
	}
	*d = ConnData{
		Order:   b[1]&flagBigEndian != 0,
		Credits: binary.BigEndian.Uint16(b[2:]),
		Table:   bigEndian.SGE(b[8:]),
		Ring:    bigEndian.SGE(b[24:]),
	}
	if b[1]&flagIomap != 0 {
		d.Iomap = unscale(b[7])
	}
	if d.Table.Length < TableEntries {
		return fmt.Errorf("peer has a table of %d entries; at least 2 are needed", d.Table.Length)
	}
	if Wraps(d.Table.Addr, SGELen*uint64(d.Table.Length)+IomapEntryLen*uint64(d.Iomap)) || Wraps(d.Ring.Addr, uint64(d.Ring.Length)) {
		return errWraps
	}
	if ok, err := ext.Parse(b[connDataLen:]); err != nil || !ok {
		return err
	}
	d.Ext = ext
	if ext.WholeRing && Wraps(d.Ring.Addr, 2*uint64(d.Ring.Length)) {
		return errWraps
	}
	return nil
}

var errWraps = errors.New("peer's memory reaches beyond 64 bits of address")
