package rdmap

import "github.com/rdmanet/iwarp/transport/soft/internal/ddp"

// Bits of the control byte, the second of every segment.
const (
	ControlVersion = 0xc0 // RV: mask of the version
	ControlOpcode  = 0x0f // mask of the opcode; the bits between are reserved

	Version = 1

	versionShift = 6
)

// Opcode names the kind of a message (RFC 5040, section 4.1).
type Opcode uint8

const (
	OpWrite             Opcode = 0
	OpReadRequest       Opcode = 1
	OpReadResponse      Opcode = 2
	OpSend              Opcode = 3
	OpSendInvalidate    Opcode = 4
	OpSendSE            Opcode = 5 // Send with Solicited Event
	OpSendSEInvalidate  Opcode = 6
	OpTerminate         Opcode = 7
	OpImmediate         Opcode = 8  // RFC 7306; recognised, not supported
	OpImmediateSE       Opcode = 9  // RFC 7306; recognised, not supported
	OpAtomicRequest     Opcode = 10 // RFC 7306; recognised, not supported
	OpAtomicResponse    Opcode = 11 // RFC 7306; recognised, not supported
	lastSupportedOpcode        = OpTerminate
)

var opcodeNames = [...]string{
	OpWrite:            "RDMA Write",
	OpReadRequest:      "RDMA Read Request",
	OpReadResponse:     "RDMA Read Response",
	OpSend:             "Send",
	OpSendInvalidate:   "Send with Invalidate",
	OpSendSE:           "Send with Solicited Event",
	OpSendSEInvalidate: "Send with Solicited Event and Invalidate",
	OpTerminate:        "Terminate",
	OpImmediate:        "Immediate Data",
	OpImmediateSE:      "Immediate Data with Solicited Event",
	OpAtomicRequest:    "Atomic Request",
	OpAtomicResponse:   "Atomic Response",
}

// Control returns the RDMAP control byte of op, with version 1.
func Control(op Opcode) byte { return Version<<versionShift | byte(op)&ControlOpcode }

// OpcodeOf returns the opcode in a control byte.
func OpcodeOf(control byte) Opcode { return Opcode(control & ControlOpcode) }

// VersionOf returns the RDMAP version, 0 to 3, in a control byte.
func VersionOf(control byte) uint8 { return control >> versionShift }

// Supported reports whether op is one of the eight of RFC 5040.
func (op Opcode) Supported() bool { return op <= lastSupportedOpcode }

// Tagged reports whether messages of op are sent to tagged buffers.
func (op Opcode) Tagged() bool { return op == OpWrite || op == OpReadResponse }

// IsSend reports whether op is one of the four that consume a receive buffer.
func (op Opcode) IsSend() bool { return op >= OpSend && op <= OpSendSEInvalidate }

// Invalidates reports whether op carries an STag to invalidate.
func (op Opcode) Invalidates() bool { return op == OpSendInvalidate || op == OpSendSEInvalidate }

// Solicited reports whether op asks for an event at the receiver.
func (op Opcode) Solicited() bool { return op == OpSendSE || op == OpSendSEInvalidate }

// Queue returns the DDP queue number of op. It has a meaning only for a supported
// op that is not tagged.
func (op Opcode) Queue() uint32 {
	switch op {
	case OpReadRequest:
		return ddp.QueueRead
	case OpTerminate:
		return ddp.QueueTerminate
	default:
		return ddp.QueueSend
	}
}

// String returns the name of op as in the RFCs.
func (op Opcode) String() string {
	if int(op) < len(opcodeNames) {
		return opcodeNames[op]
	}
	return "unknown opcode"
}
