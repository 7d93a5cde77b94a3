package shm

import "github.com/rdmanet/iwarp/transport"

// A fault is what ends a connection by a Terminate, in the codes of RFC 5040 §4.8 and RFC 5041 §7.
type fault struct {
	layer, typ, code uint8
	text             string
}

const (
	layerRDMAP = 0
	layerDDP   = 1

	typeRemoteOperation = 2
)

var (
	faultCatastrophic = &fault{layerRDMAP, 0, 0x00, "local catastrophic error"}

	faultReadSTag        = &fault{layerRDMAP, 1, 0x00, "invalid STag"}
	faultReadBounds      = &fault{layerRDMAP, 1, 0x01, "base or bounds violation"}
	faultReadAccess      = &fault{layerRDMAP, 1, 0x02, "access rights violation"}
	faultInvalidateOther = &fault{layerRDMAP, 1, 0x09, "STag cannot be invalidated"}

	faultOpcode          = &fault{layerRDMAP, typeRemoteOperation, 0x06, "unexpected opcode"}
	faultInvalidate      = &fault{layerRDMAP, typeRemoteOperation, 0x09, "unknown STag cannot be invalidated"}
	faultRemoteOperation = &fault{layerRDMAP, typeRemoteOperation, 0xff, "unspecified remote operation error"}

	faultRing        = &fault{layerDDP, 0, 0x00, "indices or headers in shared memory make no sense"}
	faultWriteSTag   = &fault{layerDDP, 1, 0x00, "invalid STag"}
	faultWriteBounds = &fault{layerDDP, 1, 0x01, "base or bounds violation"}
	faultNoBuffer    = &fault{layerDDP, 2, 0x02, "no buffer available"}
	faultTooLong     = &fault{layerDDP, 2, 0x05, "message too long for the buffer"}
)

var faults = [...]*fault{faultCatastrophic, faultReadSTag, faultReadBounds, faultReadAccess, faultInvalidateOther, faultOpcode,
	faultInvalidate, faultRemoteOperation, faultRing, faultWriteSTag, faultWriteBounds, faultNoBuffer, faultTooLong}

func (f *fault) error(local bool) *transport.TerminateError {
	return &transport.TerminateError{Layer: f.layer, Type: f.typ, Code: f.code, Local: local, Text: f.text}
}

// How an end says that nothing more comes from it. A terminate has layer, type and code above the
// lowest byte.
const (
	endNone = iota
	endClosed
	endAborted
	endTerminated

	endKeeps = 1 << 8 // with one of the first two: the link may serve for another connection
)

// end is how the peer is told of f.
func (f *fault) end() uint32 {
	return endTerminated | uint32(f.layer)<<8 | uint32(f.typ)<<16 | uint32(f.code)<<24
}

// faultOf is the fault that the peer reports by end.
func faultOf(end uint32) *fault {
	told := fault{layer: uint8(end >> 8), typ: uint8(end >> 16), code: uint8(end >> 24), text: "unknown cause"}
	for _, f := range faults {
		if f.layer == told.layer && f.typ == told.typ && f.code == told.code {
			return f
		}
	}
	return &told
}
