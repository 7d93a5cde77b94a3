package iwarp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/guard"
	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/ports"
	"github.com/rdmanet/iwarp/internal/sniff"
	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// Listen announces on the local network address as net.Listen does, by the policy in the
// environment variable IWARP_LISTEN_OFFLOAD or IWARP_OFFLOAD, or OffloadAuto. For "tcp", "tcp4" and
// "tcp6" the result is a *Listener; other networks go to package net.
func Listen(network, address string) (net.Listener, error) {
	var lc ListenConfig
	return lc.Listen(context.Background(), network, address)
}

// ListenConfig sets how to listen. Its zero value is what Listen uses. The fields up to
// KeepAliveConfig are those of net.ListenConfig with the same meaning; what devices do not obey is
// said here, and in Info.Ignored. The kernel's sockets are never MPTCP.
//
// It is safe to call the methods from several goroutines at once, but not to change a field
// meanwhile.
type ListenConfig struct {
	// Control is called on the listening socket before it is bound; if the port was reserved in
	// PortSpace, before it listens. It has no effect on connections through a device.
	Control func(network, address string, c syscall.RawConn) error

	KeepAlive       time.Duration       // interval of TCP keep-alive on accepted connections; 0 means 15 s, negative means none
	KeepAliveConfig net.KeepAliveConfig // takes precedence over KeepAlive if its Enable is true; devices use only Idle

	Offload    Offload               // the policy; the zero value can be overruled by the environment, see OffloadAuto
	Transports []transport.Transport // nil means transport.Registered
	PortSpace  *PortSpace            // nil means DefaultPortSpace; it also holds the port that an iWARP device listens on

	HandshakeTimeout time.Duration // limit for a client's MPA request and the set-up that follows; 0 means 5 s

	// FirstByteTimeout is how long a client may be silent before it is taken for plain TCP. A server
	// that speaks first answers plain TCP clients with that delay. A client that has begun to send an
	// MPA request has HandshakeTimeout.
	//
	// 0 lets the listener learn: it is 1 s at first, and 20 ms plus four round trips, but at most 1 s,
	// once three clients in a row have been silent. An MPA request, even a late one, brings back the
	// second. What other listeners of the process have learned counts as well, as long as none has
	// seen such a request. Any other value applies to all clients: time.Second turns learning off.
	//
	// On Linux, a request that comes later never reaches the application: the kernel drops it, and
	// Read returns io.EOF a tenth of a second later, or as much later as the client had been silent,
	// or later still where the application has sent much. The client falls back or fails when the
	// application closes the connection. After a silence of 100 s the request is only dropped, and
	// TCP keep-alive notices once the client has gone.
	FirstByteTimeout time.Duration

	// MaxHalfOpen bounds the clients that are not identified yet, or whose iWARP connection is
	// being set up; half of them, or one, may have said nothing. If there are more, the oldest
	// gives way to the newest, but not before it has had 100 ms, so that a small number makes
	// honest clients wait as well. 0 or less means 1024, but no more than an eighth of the
	// process's limit of descriptors. A positive number is taken as it is.
	MaxHalfOpen int

	// MaxConnsPerPeer bounds the connections of one peer that Accept has taken from the kernel's queue
	// and that are not closed here: those being set up, those that wait for Accept, and those that it
	// has returned, until Close is called, whatever the peer has done. 0 or less means no limit, as
	// with package net.
	//
	// A client beyond the limit is refused if it came through a device, or if its request for iWARP is
	// there already; otherwise it is reset. It counts as Limited. A Dialer takes a reset for a peer
	// without iWARP: as its policy says, it and the next ones make do with plain TCP for a while.
	//
	// A peer is an IP address, or the first 64 bits of one of IPv6 that is neither link-local nor of
	// 64:ff9b::/96 (NAT64): all hosts of such a network are one peer, as is everybody behind a proxy
	// or a NAT, and all programs of this host that use one address. A connection whose net.Conn is
	// closed or garbage does not count any more, even if a copy of its descriptor is open. The limit
	// is not shared with other listeners.
	MaxConnsPerPeer int

	// MaxConnRatePerPeer bounds how many connections of such a peer Accept takes in a second; as many
	// may come at once. 0 or less means no limit. What is beyond it ends as with MaxConnsPerPeer. A
	// client that is redirected to a device comes twice, as does one that is refused, or fails, and
	// falls back to plain TCP: one Dial may count several times.
	MaxConnRatePerPeer int

	// ReadBuffer is how many bytes at most the client of an iWARP connection may send ahead of the
	// calls of Read; a connection begins with 512 KiB, or 31 KiB through a device. 0 or less means 4
	// MiB, or 256 KiB through a device; other values are brought into the range from 4 KiB to 512 MiB.
	ReadBuffer int
	// ReadBudget bounds their sum for all connections that share it, except those through devices. nil
	// means the budget of the process: a quarter of the memory that it may have, by GOMEMLIMIT, its
	// cgroup or the machine.
	ReadBudget *rdmanet.Budget

	// Logger is told of the listener's clients, as SetLogger says. nil means what SetLogger has set.
	Logger *slog.Logger
}

const (
	defaultHandshakeTimeout = 5 * time.Second
	// listenTries bounds the search for a port that is free for devices as well.
	listenTries = 16
)

var errNoPeek = fmt.Errorf("first bytes of a connection cannot be looked at on this system: %w", errors.ErrUnsupported)

// Listen announces on the local network address. The context is used while the address is resolved.
// For "tcp", "tcp4" and "tcp6" the result is a *Listener. If the port is already in use on a
// device, the error matches syscall.EADDRINUSE, as for a socket.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if !netaddr.IsTCP(network) {
		return lc.netConfig().Listen(ctx, network, address)
	}
	policy, err := lc.policy(ctx, network, address)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		l, err := lc.listen(ctx, policy, network, func() (*net.TCPListener, *ports.Reservation, error) {
			return lc.listenKernel(ctx, network, address)
		})
		if err == nil {
			return l, nil
		}
		if try == listenTries || !errors.Is(err, errDevicePort) || !anyPort(address) {
			return nil, err
		}
	}
}

// policy returns the policy that applies, as far as the system supports it.
func (lc *ListenConfig) policy(ctx context.Context, network, address string) (Offload, error) {
	policy, err := lc.choose(ctx, network, address)
	if err == nil && policy >= OffloadRequire && !sniff.CanPeek {
		err = &OffloadError{ReasonNoDevice, errNoPeek}
	}
	if err != nil {
		return 0, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return policy, nil
}

// listen serves what comes in by the kernel's listener that open returns, and by devices.
func (lc *ListenConfig) listen(
	ctx context.Context, policy Offload, network string, open func() (*net.TCPListener, *ports.Reservation, error),
) (*Listener, error) {
	devices, kernel := split(lc.Transports)
	if policy == OffloadNever || !sniff.CanPeek {
		devices, kernel = nil, nil
	}
	tcp, port, err := open()
	if err != nil {
		return nil, err
	}
	l := &Listener{
		listening: &listening{tcp: tcp, port: port}, network: network, policy: policy, config: *lc,
		turn: make(chan struct{}, 1), nudge: make(chan struct{}, 1), finding: make(chan struct{}, 1), closing: make(chan struct{}),
		serving: make(map[*deviceListener]bool), counters: newCounters(tcp.Addr(), policy),
	}
	if policy == OffloadDevice {
		l.policy, kernel = OffloadRequire, nil
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if l.config.HandshakeTimeout <= 0 {
		l.config.HandshakeTimeout = defaultHandshakeTimeout
	}
	l.half.limit = max(lc.MaxHalfOpen, 0)
	l.sharing.most, l.sharing.rate = lc.MaxConnsPerPeer, lc.MaxConnRatePerPeer
	l.stream = *buffered(lc.ReadBuffer, lc.ReadBudget)
	l.silence = newSilence(l.config.FirstByteTimeout)
	if policy == OffloadNever || !sniff.CanPeek {
		l.direct = true
		return l.started(), nil
	}
	l.kernel = kernel
	l.transports = devices
	if err := l.listenDevices(ctx); err != nil {
		l.giveUp()
		return nil, &net.OpError{Op: "listen", Net: network, Addr: tcp.Addr(), Err: err}
	}
	if l.kernel == nil && len(l.deviceList()) == 0 {
		if l.policy == OffloadRequire {
			l.giveUp()
			return nil, &net.OpError{Op: "listen", Net: network, Addr: tcp.Addr(), Err: &OffloadError{ReasonNoDevice, l.whyNone}}
		}
		l.direct = true
		return l.started(), nil
	}
	if l.kernel == nil && slices.ContainsFunc(l.deviceList(), func(d *deviceListener) bool { return d.port != nil }) {
		l.kernel, l.redirects = soft.New(nil), true
	}
	return l.started(), nil
}

// giveUp gives back what a listener holds that has not started.
func (l *Listener) giveUp() {
	l.cancel()
	l.counters.page.Free()
	_ = l.port.Unlisten(l.tcp)
}

// started arranges for what l holds to be given back if nobody has done so when l becomes garbage.
func (l *Listener) started() *Listener {
	_, isOurs := l.kernel.(*soft.Transport)
	l.prompt = isOurs && len(l.devices) == 0 // or the devices would have to be asked about redirects
	l.guards = !l.direct && guard.KeepStarts(l.tcp, l.isShared())
	if !l.direct {
		l.announceSelf()
		l.watchDevices()
	}
	runtime.AddCleanup(l, (*statpage.Listener).Free, l.counters.page)
	l.cleanup = runtime.AddCleanup(l, func(h *listening) { go h.drop() }, l.listening)
	return l
}

// listenKernel makes the kernel's listener of the socket of a reservation: that of the address if
// there is one, otherwise a new one.
func (lc *ListenConfig) listenKernel(ctx context.Context, network, address string) (*net.TCPListener, *ports.Reservation, error) {
	l, r, err := lc.PortSpace.or().engine.Listen(ctx, network, address, lc.Control)
	return l, r, quiet(logConflict(lc.Logger, public(err)))
}

// anyPort reports whether the kernel chooses the port of address.
func anyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err != nil || port == "" || port == "0"
}

func (lc *ListenConfig) netConfig() *net.ListenConfig {
	n := &net.ListenConfig{Control: lc.Control, KeepAlive: lc.KeepAlive, KeepAliveConfig: lc.KeepAliveConfig}
	n.SetMultipathTCP(false)
	return n
}
