//go:build amd64 || arm64

package abi

// Sge is a struct ibv_sge.
type Sge struct {
	Addr   uint64
	Length uint32
	Lkey   uint32
}

// SendWR is a struct ibv_send_wr. Of its unions it has the members for RDMA; the rest must be zero.
type SendWR struct {
	WrID       uint64
	Next       uintptr // *SendWR
	SgList     uintptr // *Sge
	NumSge     int32
	Opcode     uint32
	SendFlags  uint32
	ImmData    uint32 // big-endian; or the key to invalidate, in the machine's order
	RemoteAddr uint64
	Rkey       uint32
	_          [76]byte
}

// Values of SendWR.Opcode: enum ibv_wr_opcode.
const (
	WRRDMAWrite         = 0
	WRRDMAWriteWithImm  = 1
	WRSend              = 2
	WRSendWithImm       = 3
	WRRDMARead          = 4
	WRAtomicCmpAndSwp   = 5
	WRAtomicFetchAndAdd = 6
	WRLocalInv          = 7
	WRBindMW            = 8
	WRSendWithInv       = 9
	WRTSO               = 10
)

// Bits of SendWR.SendFlags: enum ibv_send_flags.
const (
	SendFence     = 1 << 0
	SendSignaled  = 1 << 1
	SendSolicited = 1 << 2
	SendInline    = 1 << 3
	SendIPCsum    = 1 << 4
)

// RecvWR is a struct ibv_recv_wr.
type RecvWR struct {
	WrID   uint64
	Next   uintptr // *RecvWR
	SgList uintptr // *Sge
	NumSge int32
}

// WC is a struct ibv_wc. With a Status other than WCSuccess only WrID, Status, QPNum and VendorErr
// are good (ibv_poll_cq(3)).
type WC struct {
	WrID         uint64
	Status       uint32
	Opcode       uint32
	VendorErr    uint32
	ByteLen      uint32
	ImmData      uint32 // big-endian with WCWithImm; with WCWithInv the key that was invalidated, in the machine's order
	QPNum        uint32
	SrcQP        uint32
	WcFlags      uint32
	PkeyIndex    uint16
	Slid         uint16
	Sl           uint8
	DlidPathBits uint8
}

// Values of WC.Status: enum ibv_wc_status.
const (
	WCSuccess          = 0
	WCLocLenErr        = 1
	WCLocQPOpErr       = 2
	WCLocEECOpErr      = 3
	WCLocProtErr       = 4
	WCWrFlushErr       = 5
	WCMWBindErr        = 6
	WCBadRespErr       = 7
	WCLocAccessErr     = 8
	WCRemInvReqErr     = 9
	WCRemAccessErr     = 10
	WCRemOpErr         = 11
	WCRetryExcErr      = 12
	WCRnrRetryExcErr   = 13
	WCLocRDDViolErr    = 14
	WCRemInvRDReqErr   = 15
	WCRemAbortErr      = 16
	WCInvEECNErr       = 17
	WCInvEECStateErr   = 18
	WCFatalErr         = 19
	WCRespTimeoutErr   = 20
	WCGeneralErr       = 21
	WCTMErr            = 22
	WCTMRndvIncomplete = 23
)

// Values of WC.Opcode: enum ibv_wc_opcode. Those of receives have the bit WCRecv.
const (
	WCSend            = 0
	WCRDMAWrite       = 1
	WCRDMARead        = 2
	WCCompSwap        = 3
	WCFetchAdd        = 4
	WCBindMW          = 5
	WCLocalInv        = 6
	WCTSO             = 7
	WCRecv            = 1 << 7
	WCRecvRDMAWithImm = 1<<7 + 1
)

// Bits of WC.WcFlags: enum ibv_wc_flags.
const (
	WCGRH     = 1 << 0
	WCWithImm = 1 << 1
	WCWithInv = 1 << 3
)
