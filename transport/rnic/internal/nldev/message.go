package nldev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"
)

// Numbers of linux/netlink.h and rdma/rdma_netlink.h.
const (
	headerSize = 16 // struct nlmsghdr

	typeError   = 2
	typeDone    = 3
	clientNLDev = 5 << 10 // RDMA_NL_NLDEV, as RDMA_NL_GET_TYPE wants it

	flagRequest = 0x1
	flagAck     = 0x4
	flagDump    = 0x300

	attributeHeaderSize = 4      // struct nlattr
	attributeTypeMask   = 0x3fff // NLA_TYPE_MASK
)

// A command is an enum rdma_nldev_command.
type command uint16

const (
	commandGet        command = 1
	commandPortGet    command = 5
	commandResGet     command = 9
	commandGetChardev command = 15
)

// An attribute is one of enum rdma_nldev_attr, with the bytes of its value.
type attribute struct {
	kind  uint16
	value []byte
}

const (
	attributeDeviceIndex  = 1
	attributeDeviceName   = 2
	attributePortIndex    = 3
	attributePortState    = 12
	attributeNodeType     = 14
	attributeSummary      = 15
	attributeSummaryEntry = 16
	attributeSummaryName  = 17
	attributeSummaryCount = 18
	attributeNetDevIndex  = 50
	attributeNetDevName   = 51
	attributeProtocol     = 67
	attributeChardevType  = 69
	attributeChardevName  = 70
	attributeDriver       = 73
)

var errMalformed = errors.New("malformed netlink message")

// A refusal is the kernel's answer that there is no answer, and why.
type refusal struct{ errno syscall.Errno }

func (r refusal) Error() string { return "RDMA netlink: " + r.errno.Error() }
func (r refusal) Unwrap() error { return r.errno }

var native = binary.NativeEndian

// appendRequest appends the request for a command to b.
func appendRequest(b []byte, c command, flags uint16, seq uint32, attributes ...attribute) []byte {
	at := len(b)
	b = native.AppendUint32(b, 0)
	b = native.AppendUint16(b, clientNLDev|uint16(c))
	b = native.AppendUint16(b, flagRequest|flags)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	for _, a := range attributes {
		b = appendAttribute(b, a)
	}
	native.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

// appendAttribute appends a to b, padded to where the next one may start.
func appendAttribute(b []byte, a attribute) []byte {
	b = native.AppendUint16(b, uint16(attributeHeaderSize+len(a.value)))
	b = native.AppendUint16(b, a.kind)
	b = append(b, a.value...)
	return append(b, make([]byte, align(len(a.value))-len(a.value))...)
}

// uint32Attribute makes an attribute with a number.
func uint32Attribute(kind uint16, v uint32) attribute {
	return attribute{kind, native.AppendUint32(nil, v)}
}

// parse calls each with the attributes of every message of a datagram that answers request seq for
// command c, and reports whether the datagram ends the answer. The answer may be a refusal.
func parse(b []byte, c command, seq uint32, each func(attributes []byte) error) (done bool, err error) {
	for len(b) > 0 {
		if len(b) < headerSize {
			return false, errMalformed
		}
		size := native.Uint32(b)
		if size < headerSize || uint64(size) > uint64(len(b)) {
			return false, errMalformed
		}
		body := b[headerSize:size]
		ours := native.Uint32(b[8:]) == seq
		switch kind := native.Uint16(b[4:]); {
		case !ours: // the rest of an answer that nobody waits for
		case kind == typeDone, kind == typeError:
			// A dump that fails says why in its last message (netlink_dump of af_netlink.c),
			// anything else in an error, which with code 0 is the end of a good answer.
			if len(body) < 4 {
				return false, errMalformed
			}
			if code := int32(native.Uint32(body)); code < 0 {
				return true, refusal{syscall.Errno(-int64(code))}
			}
			return true, nil
		case kind == clientNLDev|uint16(c):
			if err := each(body); err != nil {
				return false, err
			}
		}
		b = b[min(align(int(size)), len(b)):]
	}
	return false, nil
}

// parseAttributes calls each with the attributes of a message, or of a nested attribute, until it
// fails. What is left at the end and too short for an attribute is padding, as it is to the kernel
// (nla_ok).
func parseAttributes(b []byte, each func(attribute) error) error {
	for len(b) >= attributeHeaderSize {
		size := int(native.Uint16(b))
		if size < attributeHeaderSize || size > len(b) {
			return errMalformed
		}
		if err := each(attribute{native.Uint16(b[2:]) & attributeTypeMask, b[attributeHeaderSize:size]}); err != nil {
			return err
		}
		b = b[min(align(size), len(b)):]
	}
	return nil
}

// number reads a number of any size: UVERBS_DRIVER_ID is u64 in the header file and u32 on the
// wire.
func (a attribute) number() (uint64, error) {
	switch len(a.value) {
	case 1:
		return uint64(a.value[0]), nil
	case 2:
		return uint64(native.Uint16(a.value)), nil
	case 4:
		return uint64(native.Uint32(a.value)), nil
	case 8:
		return native.Uint64(a.value), nil
	}
	return 0, errMalformed
}

// text reads a string, which ends at a NUL or with the value.
func (a attribute) text() string {
	text, _, _ := bytes.Cut(a.value, []byte{0})
	return string(text)
}

// align rounds up to where the next message or attribute starts.
func align(n int) int { return (n + 3) &^ 3 }
