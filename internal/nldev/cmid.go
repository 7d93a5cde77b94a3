package nldev

import (
	"net/netip"
	"strconv"
)

// A CMID is an id of the connection manager on a device: a listener of rdma_cm, or one end of a
// connection. An id that listens on a wildcard address is there once on each device, and one that
// is bound to a wildcard and does not listen is on none.
type CMID struct {
	Number        uint32 // tells the ids of a device apart; 0 before Linux 5.2
	Port          uint32 // of the device, 0 if it is on all of them
	Local, Remote netip.AddrPort
	State         CMState
	Space         PortSpace
	QPN           uint32 // of its queue pair, 0 if the kernel does not know it
	Owner
}

// A QP is a queue pair.
type QP struct {
	Number, Remote uint32 // Remote is 0 if it is not connected, or the device does not tell
	Port           uint32 // of the device, 0 if it has none
	State          QPState
	Type           QPType
	Owner
}

// An Owner is whose an object is. PID is 0 for those of the kernel, and for what is left of a
// process that has ended.
type Owner struct {
	PID    uint32 // of the thread that made the object, in the PID namespace of the caller
	Kernel string // of the kernel's own: the module, "ib_core", "svcrdma" and the like
}

// PortSpace is the port space of rdma_cm that an id is in (enum rdma_ucm_port_space).
type PortSpace uint32

// The port spaces.
const (
	SpaceIPoIB PortSpace = 0x0002
	SpaceTCP   PortSpace = 0x0106
	SpaceUDP   PortSpace = 0x0111
	SpaceIB    PortSpace = 0x013f
)

// String returns the name that rdma(8) has for the port space.
func (s PortSpace) String() string {
	switch s {
	case SpaceIPoIB:
		return "IPoIB"
	case SpaceTCP:
		return "TCP"
	case SpaceUDP:
		return "UDP"
	case SpaceIB:
		return "IB"
	}
	return "port space " + strconv.FormatUint(uint64(s), 16)
}

// CMState is the state of an id (enum rdma_cm_state of the kernel's rdma/rdma_cm.h).
type CMState uint8

// States that matter to callers.
const (
	CMIdle       CMState = 0
	CMConnect    CMState = 5 // being connected, or connected
	CMBound      CMState = 7
	CMListen     CMState = 8
	CMDestroying CMState = 10
)

// String returns the name that rdma(8) has for the state.
func (s CMState) String() string {
	names := [...]string{"IDLE", "ADDR_QUERY", "ADDR_RESOLVED", "ROUTE_QUERY", "ROUTE_RESOLVED", "CONNECT", "DISCONNECT",
		"ADDR_BOUND", "LISTEN", "DEVICE_REMOVAL", "DESTROYING"}
	if int(s) < len(names) {
		return names[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// QPState is the state of a queue pair (enum ib_qp_state).
type QPState uint8

// String returns the name that rdma(8) has for the state.
func (s QPState) String() string {
	names := [...]string{"RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR"}
	if int(s) < len(names) {
		return names[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// QPType is the kind of a queue pair (enum ib_qp_type).
type QPType uint8

// Management reports whether it is a queue pair that the kernel has for each port of InfiniBand and
// RoCE, for management.
func (t QPType) Management() bool { return t <= 1 }

// String returns the name that rdma(8) has for the kind.
func (t QPType) String() string {
	names := [...]string{"SMI", "GSI", "RC", "UC", "UD", "RAW_IPV6", "RAW_ETHERTYPE", "", "RAW_PACKET", "XRC_INI", "XRC_TGT"}
	if int(t) < len(names) && names[t] != "" {
		return names[t]
	}
	return "type " + strconv.Itoa(int(t))
}
