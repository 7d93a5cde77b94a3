// Package netlink queries the kernel through netlink sockets, and frames the messages
// (linux/netlink.h).
package netlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"
)

const (
	headerSize          = 16 // struct nlmsghdr
	attributeHeaderSize = 4  // struct nlattr

	typeError = 2
	typeDone  = 3

	flagRequest = 0x1

	attributeTypeMask = 0x3fff // NLA_TYPE_MASK
)

// Flags of requests.
const (
	Ack  = 0x4   // makes the kernel say that it has done what was asked for
	Dump = 0x300 // asks for everything there is
)

// ErrMalformed says that an answer breaks the rules.
var ErrMalformed = errors.New("malformed netlink message")

// A Refusal is the kernel's answer that there is none, and why.
type Refusal struct{ Errno syscall.Errno }

func (r Refusal) Error() string { return r.Errno.Error() }

// Unwrap returns Errno.
func (r Refusal) Unwrap() error { return r.Errno }

// Native is the byte order of numbers.
var Native = binary.NativeEndian

// AppendRequest appends a request of the kind with the body to b.
func AppendRequest(b []byte, kind, flags uint16, seq uint32, body []byte) []byte {
	b = Native.AppendUint32(b, uint32(headerSize+len(body)))
	b = Native.AppendUint16(b, kind)
	b = Native.AppendUint16(b, flagRequest|flags)
	b = Native.AppendUint32(b, seq)
	b = Native.AppendUint32(b, 0)
	return append(b, body...)
}

// Parse calls each with the body of every message of a datagram that answers request seq of the
// kind, and reports whether the datagram ends the answer. The answer may be a Refusal.
func Parse(b []byte, kind uint16, seq uint32, each func(body []byte) error) (done bool, err error) {
	for len(b) > 0 {
		if len(b) < headerSize {
			return false, ErrMalformed
		}
		size := Native.Uint32(b)
		if size < headerSize || uint64(size) > uint64(len(b)) {
			return false, ErrMalformed
		}
		body := b[headerSize:size]
		ours := Native.Uint32(b[8:]) == seq
		switch got := Native.Uint16(b[4:]); {
		case !ours: // the rest of an answer that nobody waits for
		case got == typeDone, got == typeError:
			// A dump that fails says why in its last message (netlink_dump of af_netlink.c),
			// anything else in an error, which with code 0 is the end of a good answer.
			if len(body) < 4 {
				return false, ErrMalformed
			}
			if code := int32(Native.Uint32(body)); code < 0 {
				return true, Refusal{syscall.Errno(-int64(code))}
			}
			return true, nil
		case got == kind:
			if err := each(body); err != nil {
				return false, err
			}
		}
		b = b[min(align(int(size)), len(b)):]
	}
	return false, nil
}

// An Attribute is a number of one of the kernel's enums, with the bytes of a value.
type Attribute struct {
	Kind  uint16
	Value []byte
}

// Uint32 makes an attribute with a number.
func Uint32(kind uint16, v uint32) Attribute {
	return Attribute{kind, Native.AppendUint32(nil, v)}
}

// Number reads a number of any size.
func (a Attribute) Number() (uint64, error) {
	switch len(a.Value) {
	case 1:
		return uint64(a.Value[0]), nil
	case 2:
		return uint64(Native.Uint16(a.Value)), nil
	case 4:
		return uint64(Native.Uint32(a.Value)), nil
	case 8:
		return Native.Uint64(a.Value), nil
	}
	return 0, ErrMalformed
}

// Text reads a string, which ends at a NUL or with the value.
func (a Attribute) Text() string {
	text, _, _ := bytes.Cut(a.Value, []byte{0})
	return string(text)
}

// AppendAttributes appends the attributes to b, each padded to where the next one may start.
func AppendAttributes(b []byte, list ...Attribute) []byte {
	for _, a := range list {
		b = Native.AppendUint16(b, uint16(attributeHeaderSize+len(a.Value)))
		b = Native.AppendUint16(b, a.Kind)
		b = append(b, a.Value...)
		b = append(b, make([]byte, align(len(a.Value))-len(a.Value))...)
	}
	return b
}

// ParseAttributes calls each with the attributes in b, until it fails. What is left at the end and
// too short for an attribute is padding, as it is to the kernel (nla_ok).
func ParseAttributes(b []byte, each func(Attribute) error) error {
	for len(b) >= attributeHeaderSize {
		size := int(Native.Uint16(b))
		if size < attributeHeaderSize || size > len(b) {
			return ErrMalformed
		}
		if err := each(Attribute{Native.Uint16(b[2:]) & attributeTypeMask, b[attributeHeaderSize:size]}); err != nil {
			return err
		}
		b = b[min(align(size), len(b)):]
	}
	return nil
}

// align rounds up to where the next message or attribute starts.
func align(n int) int { return (n + 3) &^ 3 }
