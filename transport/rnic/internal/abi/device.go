//go:build amd64 || arm64

package abi

// Device is a struct ibv_device. The libraries make it.
type Device struct {
	Ops           [2]uintptr
	NodeType      int32
	TransportType int32
	Name          [64]byte  // of the kernel's device, "mlx5_0"
	DevName       [64]byte  // of the verbs device, "uverbs0"
	DevPath       [256]byte // of class infiniband_verbs in sysfs
	IBDevPath     [256]byte // of class infiniband in sysfs
}

// Values of Device.NodeType: enum ibv_node_type.
const (
	NodeUnknown     = -1
	NodeCA          = 1
	NodeSwitch      = 2
	NodeRouter      = 3
	NodeRNIC        = 4
	NodeUSNIC       = 5
	NodeUSNICUDP    = 6
	NodeUnspecified = 7
)

// Values of Device.TransportType: enum ibv_transport_type.
const (
	TransportUnknown     = -1
	TransportIB          = 0
	TransportIWARP       = 1
	TransportUSNIC       = 2
	TransportUSNICUDP    = 3
	TransportUnspecified = 4
)

// DeviceAttr is a struct ibv_device_attr.
type DeviceAttr struct {
	FwVer                 [64]byte
	NodeGUID              uint64 // big-endian, as the next one
	SysImageGUID          uint64
	MaxMRSize             uint64
	PageSizeCap           uint64
	VendorID              uint32
	VendorPartID          uint32
	HwVer                 uint32
	MaxQP                 int32
	MaxQPWR               int32
	DeviceCapFlags        uint32
	MaxSge                int32
	MaxSgeRd              int32
	MaxCQ                 int32
	MaxCQE                int32
	MaxMR                 int32
	MaxPD                 int32
	MaxQPRdAtom           int32 // reads that a queue pair serves at the same time
	MaxEERdAtom           int32
	MaxResRdAtom          int32
	MaxQPInitRdAtom       int32 // reads that a queue pair asks for at the same time
	MaxEEInitRdAtom       int32
	AtomicCap             uint32
	MaxEE                 int32
	MaxRDD                int32
	MaxMW                 int32
	MaxRawIPv6QP          int32
	MaxRawEthyQP          int32
	MaxMcastGrp           int32
	MaxMcastQPAttach      int32
	MaxTotalMcastQPAttach int32
	MaxAH                 int32
	MaxFMR                int32
	MaxMapPerFMR          int32
	MaxSRQ                int32
	MaxSRQWR              int32
	MaxSRQSge             int32
	MaxPkeys              uint16
	LocalCaAckDelay       uint8
	PhysPortCnt           uint8
}

// Bits of DeviceAttr.DeviceCapFlags: enum ibv_device_cap_flags.
const (
	DeviceRCRnrNakGen      = 1 << 12
	DeviceMemWindow        = 1 << 17
	DeviceMemMgtExtensions = 1 << 21 // local and remote invalidation
)

// PortAttr is a struct ibv_port_attr. Function ibv_query_port of the library (not the inline one of
// the same name in verbs.h) leaves alone what old providers do not know, at the end of it.
type PortAttr struct {
	State         uint32
	MaxMTU        uint32
	ActiveMTU     uint32
	GIDTblLen     int32
	PortCapFlags  uint32
	MaxMsgSz      uint32
	BadPkeyCntr   uint32
	QkeyViolCntr  uint32
	PkeyTblLen    uint16
	Lid           uint16
	SmLid         uint16
	Lmc           uint8
	MaxVlNum      uint8
	SmSl          uint8
	SubnetTimeout uint8
	InitTypeReply uint8
	ActiveWidth   uint8
	ActiveSpeed   uint8
	PhysState     uint8
	LinkLayer     uint8
	Flags         uint8
	PortCapFlags2 uint16
}

// Values of PortAttr.State: enum ibv_port_state.
const (
	PortNop         = 0
	PortDown        = 1
	PortInit        = 2
	PortArmed       = 3
	PortActive      = 4
	PortActiveDefer = 5
)

// Values of PortAttr.MaxMTU and ActiveMTU, and QPAttr.PathMTU: enum ibv_mtu.
const (
	MTU256  = 1
	MTU512  = 2
	MTU1024 = 3
	MTU2048 = 4
	MTU4096 = 5
)

// Values of PortAttr.LinkLayer.
const (
	LinkLayerUnspecified = 0 // which means InfiniBand
	LinkLayerInfiniBand  = 1
	LinkLayerEthernet    = 2
)

// GID is a union ibv_gid. Both halves are big-endian.
type GID struct{ SubnetPrefix, InterfaceID uint64 }
