package nldev

// Traits are where a driver's devices differ from most, which have ports of their own, bypass the
// kernel and serve both families of IP. A driver that is not known is taken to be like most.
type Traits struct {
	KernelPorts bool // takes its ports by sockets of the kernel
	InSoftware  bool // the host's processor does the device's work
	OnlyIPv4    bool
}

// iwarpDrivers has the iWARP drivers of Linux, all of which report the kernel's number of the
// driver. The file and the functions are where a driver takes its ports.
var iwarpDrivers = map[Driver]Traits{
	// drivers/infiniband/sw/siw/siw_cm.c: siw_create_listen and siw_connect make a socket with
	// SO_REUSEADDR, bind it and carry the stream on it.
	DriverSIW: {KernelPorts: true, InSoftware: true},

	// drivers/infiniband/hw/erdma/erdma_cm.c: erdma_create_listen and erdma_connect make a socket
	// with SO_REUSEADDR, bind it, and exchange an MPA request and reply of a revision of their own
	// on it (erdma_recv_mpa_rr); the stream is the hardware's. Other families than AF_INET are
	// EAFNOSUPPORT.
	DriverERDMA: {KernelPorts: true, OnlyIPv4: true},

	// drivers/infiniband/hw/cxgb4/cm.c: c4iw_create_listen gives the card a server
	// (cxgb4_create_server and its sisters), c4iw_connect an active open (send_connect); no socket.
	DriverCXGB4: {},

	// drivers/infiniband/hw/irdma/cm.c: irdma_create_listen and irdma_connect add to the card's
	// table of ports (irdma_add_apbvt) and send their SYN themselves; no socket.
	DriverIRDMA: {},

	// drivers/infiniband/hw/qedr/qedr_iw_cm.c: qedr_iw_create_listen and qedr_iw_connect hand
	// address and port to the card's firmware (iwarp_create_listen, iwarp_connect); no socket.
	DriverQEDR: {},
}

// otherDrivers has those of the drivers of RoCE and InfiniBand that have a trait.
var otherDrivers = map[Driver]Traits{
	// drivers/infiniband/sw/rxe/rxe_net.c: rxe_init_packet and rxe_send make each packet an sk_buff
	// and hand it to ip_local_out, and rxe_udp_encap_recv takes them from a UDP socket; rxe_icrc.c
	// computes a CRC32 over each.
	DriverRXE: {InSoftware: true},
}

// Traits returns the traits of a device. The port space of what is not iWARP is rdma_cm's alone,
// even where the driver, such as erdma, has iWARP devices as well.
func (l *Link) Traits() Traits {
	if l.Node != NodeRNIC {
		return otherDrivers[l.Driver]
	}
	return iwarpDrivers[l.Driver]
}
