//go:build amd64 || arm64

package abi

// PD is a struct ibv_pd. The library makes it.
type PD struct {
	Context uintptr // *Context
	Handle  uint32
}

// MR is a struct ibv_mr. The library makes it.
type MR struct {
	Context uintptr // *Context
	PD      uintptr // *PD
	Addr    uintptr
	Length  uint64
	Handle  uint32
	Lkey    uint32
	Rkey    uint32
}

// Access flags of ibv_reg_mr and QPAttr.QPAccessFlags: enum ibv_access_flags.
const (
	AccessLocalWrite      = 1
	AccessRemoteWrite     = 1 << 1
	AccessRemoteRead      = 1 << 2
	AccessRemoteAtomic    = 1 << 3
	AccessMWBind          = 1 << 4
	AccessZeroBased       = 1 << 5
	AccessOnDemand        = 1 << 6
	AccessHugeTLB         = 1 << 7
	AccessRelaxedOrdering = 1 << 20 // ibv_reg_mr inline of verbs.h takes it to another function, ibv_reg_mr_iova2
)
