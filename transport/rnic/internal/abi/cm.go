//go:build amd64 || arm64

package abi

import "strconv"

// EventChannel is a struct rdma_event_channel. The library makes it.
type EventChannel struct{ Fd int32 }

// IBAddr is a struct rdma_ib_addr.
type IBAddr struct {
	SGID, DGID GID
	Pkey       uint16 // big-endian
}

// Addr is a struct rdma_addr.
type Addr struct {
	SrcAddr [128]byte // a struct sockaddr_storage, as the next one
	DstAddr [128]byte
	IBAddr  IBAddr
}

// Route is a struct rdma_route.
type Route struct {
	Addr
	PathRec  uintptr
	NumPaths int32
}

// CMID is a struct rdma_cm_id. The library makes it.
type CMID struct {
	Verbs   uintptr // *Context
	Channel uintptr // *EventChannel
	Context uintptr
	QP      uintptr // *QP
	Route
	PS            uint32
	PortNum       uint8
	Event         uintptr // *CMEvent, of IDs without a channel
	SendCQChannel uintptr // *CompChannel; this and the next three of rdma_create_qp without queues
	SendCQ        uintptr // *CQ
	RecvCQChannel uintptr // *CompChannel
	RecvCQ        uintptr // *CQ
	SRQ           uintptr
	PD            uintptr // *PD
	QPType        uint32
}

// Port spaces of rdma_create_id: enum rdma_port_space.
const (
	PSIPoIB = 0x0002
	PSTCP   = 0x0106
	PSUDP   = 0x0111
	PSIB    = 0x013f
)

// ConnParam is a struct rdma_conn_param.
type ConnParam struct {
	PrivateData        uintptr
	PrivateDataLen     uint8
	ResponderResources uint8
	InitiatorDepth     uint8
	FlowControl        uint8
	RetryCount         uint8
	RnrRetryCount      uint8
	SRQ                uint8 // this and QPNum count only where there is no queue pair on the ID
	QPNum              uint32
}

// CMEvent is a struct rdma_cm_event, with the member of its union that connections have. The
// library makes it.
type CMEvent struct {
	ID       uintptr // *CMID
	ListenID uintptr // *CMID
	Event    CMEventType
	Status   int32
	Conn     ConnParam
	_        [32]byte
}

// CMEventType is an enum rdma_cm_event_type.
type CMEventType uint32

// The events.
const (
	CMEventAddrResolved    CMEventType = 0
	CMEventAddrError       CMEventType = 1
	CMEventRouteResolved   CMEventType = 2
	CMEventRouteError      CMEventType = 3
	CMEventConnectRequest  CMEventType = 4
	CMEventConnectResponse CMEventType = 5
	CMEventConnectError    CMEventType = 6
	CMEventUnreachable     CMEventType = 7
	CMEventRejected        CMEventType = 8
	CMEventEstablished     CMEventType = 9
	CMEventDisconnected    CMEventType = 10
	CMEventDeviceRemoval   CMEventType = 11
	CMEventMulticastJoin   CMEventType = 12
	CMEventMulticastError  CMEventType = 13
	CMEventAddrChange      CMEventType = 14
	CMEventTimewaitExit    CMEventType = 15
)

// String returns the name of the event in rdma_cma.h, in words.
func (e CMEventType) String() string {
	names := [...]string{"address resolved", "address error", "route resolved", "route error", "connect request",
		"connect response", "connect error", "unreachable", "rejected", "established", "disconnected", "device removal",
		"multicast join", "multicast error", "address change", "timewait exit"}
	if uint64(e) < uint64(len(names)) {
		return names[e]
	}
	return "event " + strconv.FormatUint(uint64(e), 10)
}

// Levels and options of rdma_set_option.
const (
	OptionID = 0
	OptionIB = 1

	OptionIDTOS        = 0 // of OptionID, like the next three: a uint8
	OptionIDReuseAddr  = 1 // int32, as SO_REUSEADDR
	OptionIDAFOnly     = 2 // int32, as IPV6_V6ONLY
	OptionIDAckTimeout = 3 // uint8: 4.096 µs << value; RoCE and InfiniBand only

	OptionIBPath = 1 // of OptionIB
)
