//go:build amd64 || arm64

package abi

// Context is the beginning of a struct ibv_context: an open device. The library makes it.
type Context struct {
	Device         uintptr // *Device
	Ops            ContextOps
	CmdFd          int32
	AsyncFd        int32
	NumCompVectors int32
}

// ContextOps is a struct ibv_context_ops: addresses of the provider's functions. Those that verbs.h
// calls _compat_ are not to be called; the library has functions in their place.
type ContextOps struct {
	CompatQueryDevice uintptr
	CompatQueryPort   uintptr
	CompatAllocPD     uintptr
	CompatDeallocPD   uintptr
	CompatRegMR       uintptr
	CompatReregMR     uintptr
	CompatDeregMR     uintptr
	AllocMW           uintptr // struct ibv_mw *(struct ibv_pd *, enum ibv_mw_type)
	BindMW            uintptr // int (struct ibv_qp *, struct ibv_mw *, struct ibv_mw_bind *)
	DeallocMW         uintptr // int (struct ibv_mw *)
	CompatCreateCQ    uintptr
	PollCQ            uintptr // int (struct ibv_cq *, int num_entries, struct ibv_wc *): how many, or negative
	ReqNotifyCQ       uintptr // int (struct ibv_cq *, int solicited_only): 0 or an errno
	CompatCQEvent     uintptr
	CompatResizeCQ    uintptr
	CompatDestroyCQ   uintptr
	CompatCreateSRQ   uintptr
	CompatModifySRQ   uintptr
	CompatQuerySRQ    uintptr
	CompatDestroySRQ  uintptr
	PostSRQRecv       uintptr // int (struct ibv_srq *, struct ibv_recv_wr *, struct ibv_recv_wr **bad)
	CompatCreateQP    uintptr
	CompatQueryQP     uintptr
	CompatModifyQP    uintptr
	CompatDestroyQP   uintptr
	PostSend          uintptr // int (struct ibv_qp *, struct ibv_send_wr *, struct ibv_send_wr **bad): 0 or an errno
	PostRecv          uintptr // int (struct ibv_qp *, struct ibv_recv_wr *, struct ibv_recv_wr **bad): 0 or an errno
	CompatCreateAH    uintptr
	CompatDestroyAH   uintptr
	CompatAttachMcast uintptr
	CompatDetachMcast uintptr
	CompatAsyncEvent  uintptr
}

// AsyncEvent is a struct ibv_async_event.
type AsyncEvent struct {
	Element   uintptr // *CQ, *QP, ... or in its first four bytes the number of a port
	EventType uint32
}

// Values of AsyncEvent.EventType: enum ibv_event_type.
const (
	EventCQErr            = 0
	EventQPFatal          = 1
	EventQPReqErr         = 2
	EventQPAccessErr      = 3
	EventCommEst          = 4
	EventSQDrained        = 5
	EventPathMig          = 6
	EventPathMigErr       = 7
	EventDeviceFatal      = 8
	EventPortActive       = 9
	EventPortErr          = 10
	EventLidChange        = 11
	EventPkeyChange       = 12
	EventSMChange         = 13
	EventSRQErr           = 14
	EventSRQLimitReached  = 15
	EventQPLastWQEReached = 16
	EventClientReregister = 17
	EventGIDChange        = 18
	EventWQFatal          = 19
)
