//go:build amd64 || arm64

package rnic

import (
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/nldev"
)

// traits are where a driver's devices differ from most, which have ports of their own, bypass the
// kernel and serve both families of IP. A driver that is not known is taken to be like most.
type traits struct {
	kernelPorts bool // transport.Device.KernelPorts, in place of OwnPorts
	inSoftware  bool // transport.Device.InSoftware
	onlyIPv4    bool
}

// iwarpDrivers has the iWARP drivers of Linux, all of which report the kernel's number of the
// driver. The file and the functions are where a driver takes its ports.
var iwarpDrivers = map[nldev.Driver]traits{
	// drivers/infiniband/sw/siw/siw_cm.c: siw_create_listen and siw_connect make a socket with
	// SO_REUSEADDR, bind it and carry the stream on it.
	nldev.DriverSIW: {kernelPorts: true, inSoftware: true},

	// drivers/infiniband/hw/erdma/erdma_cm.c: erdma_create_listen and erdma_connect make a socket
	// with SO_REUSEADDR, bind it, and exchange an MPA request and reply of a revision of their own
	// on it (erdma_recv_mpa_rr); the stream is the hardware's. Other families than AF_INET are
	// EAFNOSUPPORT.
	nldev.DriverERDMA: {kernelPorts: true, onlyIPv4: true},

	// drivers/infiniband/hw/cxgb4/cm.c: c4iw_create_listen gives the card a server
	// (cxgb4_create_server and its sisters), c4iw_connect an active open (send_connect); no socket.
	nldev.DriverCXGB4: {},

	// drivers/infiniband/hw/irdma/cm.c: irdma_create_listen and irdma_connect add to the card's
	// table of ports (irdma_add_apbvt) and send their SYN themselves; no socket.
	nldev.DriverIRDMA: {},

	// drivers/infiniband/hw/qedr/qedr_iw_cm.c: qedr_iw_create_listen and qedr_iw_connect hand
	// address and port to the card's firmware (iwarp_create_listen, iwarp_connect); no socket.
	nldev.DriverQEDR: {},
}

// otherDrivers has those of the drivers of RoCE and InfiniBand that have a trait.
var otherDrivers = map[nldev.Driver]traits{
	// drivers/infiniband/sw/rxe/rxe_net.c: rxe_init_packet and rxe_send make each packet an sk_buff
	// and hand it to ip_local_out, and rxe_udp_encap_recv takes them from a UDP socket; rxe_icrc.c
	// computes a CRC32 over each.
	nldev.DriverRXE: {inSoftware: true},
}

// traitsOf returns the traits of a device. The port space of what is not iWARP is rdma_cm's alone,
// even where the driver, such as erdma, has iWARP devices as well.
func traitsOf(l *nldev.Link) traits {
	if l.Node != nldev.NodeRNIC {
		return otherDrivers[l.Driver]
	}
	return iwarpDrivers[l.Driver]
}

// describe returns the device without its addresses.
func describe(l *nldev.Link) *device {
	t := traitsOf(l)
	return &device{
		Device: transport.Device{
			Name: l.Device, Transport: transportName, NetDev: l.NetDev,
			OwnPorts: !t.kernelPorts, KernelPorts: t.kernelPorts, InSoftware: t.inSoftware,
			IWARP: l.Node == nldev.NodeRNIC,
		},
		siw: l.Driver == nldev.DriverSIW, onlyIPv4: t.onlyIPv4,
	}
}
