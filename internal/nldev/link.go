package nldev

import "strconv"

// A Link is a port of an RDMA device.
type Link struct {
	Device      string   // name of the device, as verbs have it
	Index       uint32   // of the device; a new one each time that a device is made, names are not
	Driver      Driver   // DriverUnknown if the kernel does not tell
	Chardev     string   // name of the file in /dev/infiniband that verbs open, "uverbs0"; "" if the kernel does not tell
	Node        NodeType // NodeUnknown if the kernel does not tell
	Protocol    string   // "iw", "roce", "ib", "opa", "usnic" of the device's first port; "" if the kernel does not tell
	Port        uint32   // from 1
	State       PortState
	NetDev      string // name of the Ethernet interface; "" if there is none, or it is in another network namespace
	NetDevIndex uint32 // of that interface, or 0
}

// Driver is the kernel's number of a driver (enum rdma_driver_id of rdma/ib_user_ioctl_verbs.h).
// The kernel does not report it for drivers whose libraries must find their devices by PCI numbers
// (uverbs_no_driver_id_binding), nor before 5.3, nor for the moment in which a device that comes or
// goes has no chardev; then Chardev is empty, too.
type Driver uint32

// Drivers that matter to callers: the two in software, and those of iWARP.
const (
	DriverUnknown Driver = 0
	DriverCXGB4   Driver = 4
	DriverIRDMA   Driver = 9
	DriverQEDR    Driver = 11
	DriverRXE     Driver = 14
	DriverSIW     Driver = 18
	DriverERDMA   Driver = 19
)

// String returns the name of the driver, as far as it was there in Linux 6.1.
func (d Driver) String() string {
	names := [...]string{"unknown", "mlx5", "mlx4", "cxgb3", "cxgb4", "mthca", "bnxt_re", "ocrdma", "nes", "irdma",
		"vmw_pvrdma", "qedr", "hns", "usnic", "rxe", "hfi1", "qib", "efa", "siw", "erdma"}
	if uint64(d) < uint64(len(names)) {
		return names[d]
	}
	return "driver " + strconv.FormatUint(uint64(d), 10)
}

// NodeType is what a device is (enum rdma_node_type of the kernel's rdma/ib_verbs.h, ibv_node_type
// of verbs.h).
type NodeType uint8

// The types of nodes.
const (
	NodeUnknown     NodeType = 0
	NodeCA          NodeType = 1 // InfiniBand, RoCE
	NodeSwitch      NodeType = 2
	NodeRouter      NodeType = 3
	NodeRNIC        NodeType = 4 // iWARP
	NodeUSNIC       NodeType = 5
	NodeUSNICUDP    NodeType = 6
	NodeUnspecified NodeType = 7 // a device with a protocol of its own: efa, ...
)

// String returns the name that rdma(8) has for the type.
func (n NodeType) String() string {
	names := [...]string{"unknown", "ca", "switch", "router", "rnic", "usnic", "usnic_udp", "unspecified"}
	if int(n) < len(names) {
		return names[n]
	}
	return "node type " + strconv.Itoa(int(n))
}

// PortState is the state of a port (enum ib_port_state).
type PortState uint8

// The states: a port carries traffic in Active, and for a while in ActiveDefer.
const (
	PortNop         PortState = 0
	PortDown        PortState = 1
	PortInit        PortState = 2
	PortArmed       PortState = 3
	PortActive      PortState = 4
	PortActiveDefer PortState = 5
)

// String returns the name that rdma(8) has for the state.
func (s PortState) String() string {
	names := [...]string{"NOP", "DOWN", "INIT", "ARMED", "ACTIVE", "ACTIVE_DEFER"}
	if int(s) < len(names) {
		return names[s]
	}
	return "state " + strconv.Itoa(int(s))
}
