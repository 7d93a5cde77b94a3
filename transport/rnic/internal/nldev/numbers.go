package nldev

// clientNLDev is the client in the kinds of messages (RDMA_NL_NLDEV, as RDMA_NL_GET_TYPE wants it).
const clientNLDev = 5 << 10

// Kinds of messages: enum rdma_nldev_command of rdma/rdma_netlink.h.
const (
	commandGet        = clientNLDev | 1
	commandPortGet    = clientNLDev | 5
	commandResGet     = clientNLDev | 9
	commandGetChardev = clientNLDev | 15
)

// Kinds of attributes: enum rdma_nldev_attr.
const (
	attributeDeviceIndex  = 1
	attributeDeviceName   = 2
	attributePortIndex    = 3
	attributePortState    = 12
	attributeNodeType     = 14
	attributeSummary      = 15
	attributeSummaryEntry = 16
	attributeSummaryName  = 17
	attributeSummaryCount = 18
	attributeNetDevIndex  = 50
	attributeNetDevName   = 51
	attributeProtocol     = 67
	attributeChardevType  = 69
	attributeChardevName  = 70
	attributeDriver       = 73
)
