//go:build amd64 || arm64

package abi

// CompChannel is a struct ibv_comp_channel. The library makes it.
type CompChannel struct {
	Context uintptr // *Context
	Fd      int32
	Refcnt  int32
}

// CQ is the beginning of a struct ibv_cq. The library makes it.
type CQ struct {
	Context   uintptr // *Context
	Channel   uintptr // *CompChannel
	CQContext uintptr
	Handle    uint32
	CQE       int32
}

// QP is the beginning of a struct ibv_qp. The library makes it.
type QP struct {
	Context   uintptr // *Context
	QPContext uintptr
	PD        uintptr // *PD
	SendCQ    uintptr // *CQ
	RecvCQ    uintptr // *CQ
	SRQ       uintptr
	Handle    uint32
	QPNum     uint32
	State     uint32
	QPType    uint32
}

// QPCap is a struct ibv_qp_cap.
type QPCap struct {
	MaxSendWR     uint32
	MaxRecvWR     uint32
	MaxSendSge    uint32
	MaxRecvSge    uint32
	MaxInlineData uint32
}

// QPInitAttr is a struct ibv_qp_init_attr. What creates the queue pair writes into Cap what the
// device gives.
type QPInitAttr struct {
	QPContext uintptr
	SendCQ    uintptr // *CQ
	RecvCQ    uintptr // *CQ
	SRQ       uintptr
	Cap       QPCap
	QPType    uint32
	SqSigAll  int32
}

// Values of QPType: enum ibv_qp_type.
const (
	QPTypeRC        = 2
	QPTypeUC        = 3
	QPTypeUD        = 4
	QPTypeRawPacket = 8
	QPTypeXRCSend   = 9
	QPTypeXRCRecv   = 10
	QPTypeDriver    = 0xff
)

// Values of QPAttr.QPState and CurQPState: enum ibv_qp_state.
const (
	QPStateReset   = 0
	QPStateInit    = 1
	QPStateRTR     = 2
	QPStateRTS     = 3
	QPStateSQD     = 4
	QPStateSQE     = 5
	QPStateErr     = 6
	QPStateUnknown = 7
)

// GlobalRoute is a struct ibv_global_route.
type GlobalRoute struct {
	DGID         GID
	FlowLabel    uint32
	SGIDIndex    uint8
	HopLimit     uint8
	TrafficClass uint8
}

// AHAttr is a struct ibv_ah_attr.
type AHAttr struct {
	Grh         GlobalRoute
	Dlid        uint16
	Sl          uint8
	SrcPathBits uint8
	StaticRate  uint8
	IsGlobal    uint8
	PortNum     uint8
}

// QPAttr is a struct ibv_qp_attr.
type QPAttr struct {
	QPState          uint32
	CurQPState       uint32
	PathMTU          uint32
	PathMigState     uint32
	Qkey             uint32
	RqPsn            uint32
	SqPsn            uint32
	DestQPNum        uint32
	QPAccessFlags    uint32
	Cap              QPCap
	AHAttr           AHAttr
	AltAHAttr        AHAttr
	PkeyIndex        uint16
	AltPkeyIndex     uint16
	EnSqdAsyncNotify uint8
	SqDraining       uint8
	MaxRdAtomic      uint8
	MaxDestRdAtomic  uint8
	MinRnrTimer      uint8
	PortNum          uint8
	Timeout          uint8
	RetryCnt         uint8
	RnrRetry         uint8
	AltPortNum       uint8
	AltTimeout       uint8
	RateLimit        uint32
}

// Bits that say which members of QPAttr ibv_modify_qp is to set, or ibv_query_qp to tell: enum
// ibv_qp_attr_mask.
const (
	QPAttrState            = 1 << 0
	QPAttrCurState         = 1 << 1
	QPAttrEnSqdAsyncNotify = 1 << 2
	QPAttrAccessFlags      = 1 << 3
	QPAttrPkeyIndex        = 1 << 4
	QPAttrPort             = 1 << 5
	QPAttrQkey             = 1 << 6
	QPAttrAV               = 1 << 7
	QPAttrPathMTU          = 1 << 8
	QPAttrTimeout          = 1 << 9
	QPAttrRetryCnt         = 1 << 10
	QPAttrRnrRetry         = 1 << 11
	QPAttrRqPsn            = 1 << 12
	QPAttrMaxQPRdAtomic    = 1 << 13
	QPAttrAltPath          = 1 << 14
	QPAttrMinRnrTimer      = 1 << 15
	QPAttrSqPsn            = 1 << 16
	QPAttrMaxDestRdAtomic  = 1 << 17
	QPAttrPathMigState     = 1 << 18
	QPAttrCap              = 1 << 19
	QPAttrDestQPN          = 1 << 20
	QPAttrRateLimit        = 1 << 25
)
