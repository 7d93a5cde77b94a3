package nldev

// clientNLDev is the client in the kinds of messages (RDMA_NL_NLDEV, as RDMA_NL_GET_TYPE wants it).
const clientNLDev = 5 << 10

// Kinds of messages: enum rdma_nldev_command of rdma/rdma_netlink.h.
const (
	commandGet        = clientNLDev | 1
	commandPortGet    = clientNLDev | 5
	commandResGet     = clientNLDev | 9
	commandQPGet      = clientNLDev | 10
	commandCMIDGet    = clientNLDev | 11
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
	attributeQP           = 19
	attributeQPEntry      = 20
	attributeLocalQPN     = 21
	attributeRemoteQPN    = 22
	attributeType         = 26
	attributeState        = 27
	attributePID          = 28
	attributeKernelName   = 29
	attributeCMID         = 30
	attributeCMIDEntry    = 31
	attributePortSpace    = 32
	attributeSource       = 33
	attributeDestination  = 34
	attributeNetDevIndex  = 50
	attributeCMIDNumber   = 63
	attributeNetDevName   = 51
	attributeProtocol     = 67
	attributeChardevType  = 69
	attributeChardevName  = 70
	attributeDriver       = 73
)
