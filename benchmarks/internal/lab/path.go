package lab

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

// A Path is one way to carry a byte stream from one process to another.
type Path struct {
	// Name says what varies, as key=value pairs that benchstat can pivot on.
	Name string
	// OneHost is true if both ends must be on the same host.
	OneHost bool
	// Dial and Listen take addresses of TCP, or of abstract Unix sockets, which begin with "@".
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Listen func(ctx context.Context, address string) (net.Listener, error)
}

// The names of the paths.
const (
	TCP      = "transport=tcp"       // package net, the reference
	TCPAgain = "transport=tcp-again" // the same once more: what differs from TCP is noise
	Fallback = "transport=fallback"  // plain TCP through package iwarp: the listener looks at the first bytes
	SoftCRC  = "transport=soft/crc=on"
	SoftPoll = "transport=soft/crc=on/poll=10us" // a call looks for bytes for that long before it sleeps
	Soft     = "transport=soft/crc=off"
	TLS      = "transport=tls" // crypto/tls over package net
	Shm      = "transport=shm"
	ShmPoll  = "transport=shm/poll=50us" // the same
	Unix     = "transport=unix"          // Unix sockets of package net

	// FPDUs as they are towards an RNIC behind Ethernet.
	SoftCRC1460 = "transport=soft/crc=on/fpdu=1460"
	Soft1460    = "transport=soft/crc=off/fpdu=1460"
)

// Paths returns every path that this system has, the reference first.
func Paths() []Path {
	crc, noCRC := soft.New(&soft.Config{AlwaysCRC: true}), soft.New(&soft.Config{NoCRC: true})
	ps := []Path{
		plain(TCP),
		plain(TCPAgain),
		offload(Fallback, iwarp.OffloadNever, iwarp.OffloadPrefer, crc),
		offload(SoftCRC, iwarp.OffloadRequire, iwarp.OffloadRequire, crc),
		offload(SoftPoll, iwarp.OffloadRequire, iwarp.OffloadRequire, soft.New(&soft.Config{AlwaysCRC: true, Poll: 10 * time.Microsecond})),
		offload(Soft, iwarp.OffloadRequire, iwarp.OffloadRequire, noCRC),
		encrypted(),
		segmented(SoftCRC1460, crc, 1460),
		segmented(Soft1460, noCRC, 1460),
	}
	memory, polling := shm.New(nil), shm.New(&shm.Config{Poll: 50 * time.Microsecond})
	if devices, err := memory.Devices(); err == nil && len(devices) > 0 {
		ps = append(ps, shared(Shm, memory), shared(ShmPoll, polling), unixSocket())
	}
	return ps
}

// Lookup returns the path of that name.
func Lookup(name string) (Path, bool) {
	for _, p := range Paths() {
		if p.Name == name {
			return p, true
		}
	}
	return Path{}, false
}

// path makes a Path of what dials and listens in the ways of package net.
func path(name string, dial func(ctx context.Context, network, address string) (net.Conn, error),
	listen func(ctx context.Context, network, address string) (net.Listener, error)) Path {
	return Path{
		Name: name,
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return dial(ctx, networkOf(address), address)
		},
		Listen: func(ctx context.Context, address string) (net.Listener, error) {
			return listen(ctx, networkOf(address), address)
		},
	}
}

func networkOf(address string) string {
	if strings.HasPrefix(address, "@") {
		return "unix"
	}
	return "tcp"
}

func plain(name string) Path {
	d := &net.Dialer{Control: pinCongestion}
	d.SetMultipathTCP(false)
	lc := &net.ListenConfig{Control: pinCongestion}
	lc.SetMultipathTCP(false)
	return path(name, d.DialContext, lc.Listen)
}

func offload(name string, dial, listen iwarp.Offload, over transport.Transport) Path {
	d := &iwarp.Dialer{Control: pinCongestion, Offload: dial, Transports: []transport.Transport{over}}
	lc := &iwarp.ListenConfig{Control: pinCongestion, Offload: listen, Transports: []transport.Transport{over}}
	return path(name, d.DialContext, lc.Listen)
}

func shared(name string, over transport.Transport) Path {
	p := offload(name, iwarp.OffloadRequire, iwarp.OffloadRequire, over)
	p.OneHost = true
	return p
}

// unixSocket is what programs of one host use that do not go by TCP.
func unixSocket() Path {
	p := path(Unix, new(net.Dialer).DialContext, new(net.ListenConfig).Listen)
	p.OneHost = true
	return p
}

func encrypted() Path {
	p := plain(TLS)
	dial, listen := p.Dial, p.Listen
	p.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		c, err := dial(ctx, address)
		if err != nil {
			return nil, err
		}
		// The cost of encryption is measured here, so the certificate is made on the spot and
		// nobody vouches for it.
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}), nil
	}
	p.Listen = func(ctx context.Context, address string) (net.Listener, error) {
		cert, err := selfSigned()
		if err != nil {
			return nil, err
		}
		l, err := listen(ctx, address)
		if err != nil {
			return nil, err
		}
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}), nil
	}
	return p
}
