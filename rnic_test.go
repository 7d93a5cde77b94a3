package iwarp_test

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// rnic is a transport whose devices are iWARP's: they reach what listens in their own port space,
// or else the kernel's TCP. Its ends are those of all its users, as if they were on one network.
type rnic struct {
	soft *soft.Transport

	// What the tests have to say. A nil function means the ordinary.
	listenHook func(local netip.AddrPort) error   // before a port is listened on
	routeHook  func() (transport.Device, error)   // in place of the ordinary device
	onConnect  func(local netip.AddrPort, s step) // in siw's Connect

	mu        sync.Mutex
	devices   []transport.Device
	noDevices error
	ports     map[netip.AddrPort]netip.AddrPort // what its listeners have
	dials     []uint16                          // ports that were dialed
	locals    []netip.AddrPort                  // where from
	listens   []listening
	live      map[*rnicListener]bool
	watchers  map[*func()]bool
}

// listening is a call of Listen.
type listening struct {
	local netip.AddrPort
	o     transport.Options
}

// step is a moment of a Connect.
type step int

const (
	beforeBind step = iota
	afterConnect
)

// rnicKind makes one of the kinds of iWARP devices that there are.
type rnicKind struct {
	device transport.Device
	over   func(*rnic) transport.Transport
}

func loopback() []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} }

// rnicKinds has siw, too, where the system can do what that needs.
var rnicKinds = map[string]rnicKind{
	"own ports": {
		device: transport.Device{Name: "irdma0", Transport: "rnic", Addrs: loopback(), OwnPorts: true, IWARP: true},
		over:   func(n *rnic) transport.Transport { return n },
	},
}

var roce = transport.Device{Name: "rxe0", Transport: "rnic", Addrs: loopback(), OwnPorts: true}

// rnics calls f for each kind of device.
func rnics(t *testing.T, f func(t *testing.T, n *rnic, nic transport.Transport)) {
	for name, kind := range rnicKinds {
		t.Run(name, func(t *testing.T) {
			iwarp.ForgetPeers()
			n := newRNIC(kind.device)
			f(t, n, kind.over(n))
		})
	}
}

func newRNIC(devices ...transport.Device) *rnic {
	return &rnic{soft: soft.New(nil), devices: devices, ports: make(map[netip.AddrPort]netip.AddrPort), live: make(map[*rnicListener]bool)}
}

func withSoft(t transport.Transport) []transport.Transport {
	return []transport.Transport{t, soft.New(nil)}
}

func (n *rnic) Name() string   { return "rnic" }
func (n *rnic) Offloads() bool { return true }

func (n *rnic) Devices() ([]transport.Device, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.devices), n.noDevices
}

// WatchDevices implements transport.DeviceWatcher.
func (n *rnic) WatchDevices(f func()) (stop func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watchers == nil {
		n.watchers = make(map[*func()]bool)
	}
	n.watchers[&f] = true
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.watchers, &f)
	}
}

// plug has these be the devices from now on.
func (n *rnic) plug(devices ...transport.Device) {
	n.mu.Lock()
	n.devices = devices
	watchers := slices.Collect(maps.Keys(n.watchers))
	n.mu.Unlock()
	for _, f := range watchers {
		(*f)()
	}
}

func (n *rnic) Route(context.Context, netip.AddrPort, netip.AddrPort) (transport.Device, error) {
	if n.routeHook != nil {
		return n.routeHook()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.devices) == 0 {
		return transport.Device{}, transport.ErrNoDevice
	}
	return n.devices[0], nil
}

// dialed records a dial, and returns the address of the listener of a device that has the port of
// remote, or else remote.
func (n *rnic) dialed(local, remote netip.AddrPort) netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials, n.locals = append(n.dials, remote.Port()), append(n.locals, local)
	for _, at := range []netip.Addr{remote.Addr(), netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if to, ok := n.ports[netip.AddrPortFrom(at, remote.Port())]; ok {
			return to
		}
	}
	return remote
}

// dialing returns the ports that the device dials where the first is that of the service: software
// asks there before siw does.
func (n *rnic) dialing(ports ...uint16) []uint16 {
	if n.devices[0].KernelPorts {
		ports = ports[1:]
	}
	return append([]uint16{}, ports...)
}

// takeDials returns the ports that were dialed since the last call.
func (n *rnic) takeDials() []uint16 {
	n.mu.Lock()
	defer n.mu.Unlock()
	dials := n.dials
	n.dials = nil
	return dials
}

func (n *rnic) Dial(ctx context.Context, local, remote netip.AddrPort, o *transport.Options) (transport.Connector, error) {
	return n.soft.Dial(ctx, netip.AddrPort{}, n.dialed(local, remote), o)
}

// listening records a call of Listen, and does what the test wants.
func (n *rnic) listening(local netip.AddrPort, o *transport.Options) error {
	n.mu.Lock()
	n.listens = append(n.listens, listening{local, *o})
	n.mu.Unlock()
	if n.listenHook != nil {
		return n.listenHook(local)
	}
	return nil
}

func (n *rnic) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	if err := n.listening(local, o); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.ports[local]; ok {
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	l, err := n.soft.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), o)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(o.Devices, roce.Name) { // which other devices do not reach
		n.ports[local] = l.Addr()
	}
	return n.started(l, local), nil
}

// started records that a listener is there. Its caller holds n.mu.
func (n *rnic) started(l transport.Listener, local netip.AddrPort) transport.Listener {
	r := &rnicListener{Listener: l, n: n, local: local}
	n.live[r] = true
	return r
}

// listeners returns how many there are.
func (n *rnic) listeners() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.live)
}

// unplug ends the listeners, as the loss of the devices does.
func (n *rnic) unplug() {
	n.mu.Lock()
	live := n.live
	n.live = make(map[*rnicListener]bool)
	n.mu.Unlock()
	for l := range live {
		_ = l.Close()
	}
}

// lastListen returns what the last call of Listen was for.
func (n *rnic) lastListen() listening {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listens[len(n.listens)-1]
}

type rnicListener struct {
	transport.Listener
	n     *rnic
	local netip.AddrPort
}

func (l *rnicListener) Accept(ctx context.Context) (transport.Request, error) {
	r, err := l.Listener.Accept(ctx)
	if err != nil {
		return nil, err
	}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	return rnicRequest{r, rnicQP{r.QueuePair(), l.n.devices[0].Name}}, nil
}

type rnicRequest struct {
	transport.Request
	qp rnicQP
}

func (r rnicRequest) QueuePair() transport.QueuePair { return r.qp }

// rnicQP has the name of the device.
type rnicQP struct {
	transport.QueuePair
	device string
}

func (q rnicQP) Unwrap() transport.QueuePair { return q.QueuePair }

func (q rnicQP) Attributes() transport.Attributes {
	a := q.QueuePair.Attributes()
	a.Device = q.device
	return a
}

func (l *rnicListener) Close() error {
	l.n.mu.Lock()
	delete(l.n.live, l)
	delete(l.n.ports, l.local)
	l.n.mu.Unlock()
	return l.Listener.Close()
}
