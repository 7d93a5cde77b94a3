package nldev

// Counts says how many objects of a device exist: those of all processes, and the kernel's own.
// InfiniBand and RoCE devices, rxe among them, always have a queue pair for management (GSI) and
// what it needs.
type Counts struct {
	QP, CQ, MR, PD uint64
	CMID           uint64 // connection manager ids
	Ctx            uint64 // open files of the device
}

// field returns where the count of a RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_NAME belongs (fill_res_info
// of the kernel's nldev.c).
func (c *Counts) field(name string) *uint64 {
	switch name {
	case "qp":
		return &c.QP
	case "cq":
		return &c.CQ
	case "mr":
		return &c.MR
	case "pd":
		return &c.PD
	case "cm_id":
		return &c.CMID
	case "ctx":
		return &c.Ctx
	}
	return new(uint64) // srq, and what kernels to come may count
}
