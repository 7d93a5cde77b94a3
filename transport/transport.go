package transport

import (
	"context"
	"net/netip"
)

// A Transport makes connections of one kind, for example iWARP in software or an RDMA device.
// Its methods may be called by several goroutines at once.
type Transport interface {
	// Name is a short, constant name such as "soft" or "rnic".
	Name() string

	// Offloads reports whether the connections bypass the kernel's TCP, except those of devices with
	// InSoftware. A transport that does is preferred.
	Offloads() bool

	// Devices lists the devices that can be used now. Without any the list is empty; an error says why
	// the question could not be answered.
	Devices() ([]Device, error)

	// Route returns the device that reaches remote. An invalid local lets the transport choose the
	// source address, which is then the first of its family in the Device's Addrs. The error
	// matches ErrNoDevice or ErrNoRoute where that is the cause.
	Route(ctx context.Context, local, remote netip.AddrPort) (Device, error)

	// Dial reaches remote and prepares a queue pair. The peer's application learns of it by
	// Connector.Connect. An invalid local, or its port 0, lets the transport choose. A port that is
	// taken, which possibly only Connect finds out, is an error that matches syscall.EADDRINUSE;
	// connections to different remotes may come from one port. A nil Options means the defaults.
	Dial(ctx context.Context, local, remote netip.AddrPort, o *Options) (Connector, error)

	// Listen takes connection requests on local. A port that is taken, in its own port space or in the
	// kernel's TCP, is an error that matches syscall.EADDRINUSE. A nil Options means the defaults.
	Listen(ctx context.Context, local netip.AddrPort, o *Options) (Listener, error)
}

// A Device is one way out: an RNIC's port, or the software's stand-in for it.
type Device struct {
	Name      string       // verbs name, e.g. "siw0", "irdma1"; "soft" for the software transport
	Transport string       // name of the Transport it belongs to
	NetDev    string       // network interface, if the device belongs to one
	Addrs     []netip.Addr // addresses it serves; empty means all of the host's
	OwnPorts  bool         // true if its port space is not the kernel's TCP port space

	// KernelPorts is true if the device takes ports of the kernel's TCP port space with sockets of its
	// own, as siw and erdma do. A port that is held for it must be open to a second socket with
	// SO_REUSEADDR while the device binds it: in Transport.Listen, or in Connector.Connect, not
	// before.
	KernelPorts bool

	// InSoftware is true if the kernel carries its connections, as it does those of siw over TCP and
	// those of rxe over UDP: they are not offloaded, whatever Transport.Offloads says.
	InSoftware bool

	// IWARP is true if its connections are TCP on the wire, so that a port that it listens on swallows
	// the clients of the kernel's TCP. A listener of package iwarp leaves the port to the kernel,
	// gives such a device another one and redirects clients to it.
	IWARP bool
}

// Options holds what the user of a queue pair may ask of it. The zero value asks for the defaults.
type Options struct {
	SendDepth int  // send work requests that can be outstanding; 0 means 512
	RecvDepth int  // receive work requests that can be posted; 0 means 512
	IRD       int  // inbound RDMA Reads served at once, 1 to 16383; 0 means 16; negative means none
	ORD       int  // outbound RDMA Reads in flight, 1 to 16383; 0 means 16; negative means none
	NoCRC     bool // do not ask for CRC32C (RFC 5044 §4.4), which a peer can; see HostProver

	// Devices names the devices that Listen is for; nil means all. With a wildcard address it takes
	// requests to any address of these, and leaves the port of all other devices alone, including
	// those that come later. An address that none of them serves is an error that matches ErrNoDevice.
	Devices []string
	// OnlyIPv6 makes Listen on the wildcard "::" leave IPv4 alone; otherwise it is for both families.
	OnlyIPv6 bool
}

// A Connector is a connection in the making on the active side. The queue pair is in StateIdle:
// register memory and post receives, then Connect. Close may be called by any goroutine, even while
// another one is in Connect, which it ends; Connect is called once.
type Connector interface {
	QueuePair() QueuePair

	// Connect sends privateData with the connection request and waits for the answer. It returns
	// the peer's private data. A refusal by the peer is a *RejectedError. After an error the queue
	// pair is closed.
	Connect(ctx context.Context, privateData []byte) (peer []byte, err error)

	// Close gives up; it also closes the queue pair. After a successful Connect it does nothing.
	Close() error
}

// A Listener yields connection requests. Its methods may be called by several goroutines at once.
type Listener interface {
	// Accept waits for the next valid request. A peer's failure is never returned here; errors mean
	// that the listener has ended (net.ErrClosed) or is short of a local resource.
	Accept(ctx context.Context) (Request, error)
	Addr() netip.AddrPort
	// Close ends the listener and wakes Accept. Requests already accepted live on.
	Close() error
}

// A Request is a connection in the making on the passive side. Its queue pair is in StateIdle:
// register memory and post receives, then Accept or Reject. One of the two must be called, once;
// its methods are for one goroutine at a time.
type Request interface {
	// PrivateData is what the peer sent with its request. It must not be changed.
	PrivateData() []byte
	QueuePair() QueuePair
	// Accept answers with privateData and brings the queue pair to StateRTS. After an error the
	// queue pair is closed.
	Accept(ctx context.Context, privateData []byte) error
	// Reject refuses with privateData, which the peer finds in its RejectedError, and closes the
	// queue pair.
	Reject(privateData []byte) error
}
