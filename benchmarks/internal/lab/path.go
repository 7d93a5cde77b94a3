package lab

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// A Path is one way to carry a byte stream from one process to another.
type Path struct {
	// Name says what varies, as key=value pairs that benchstat can pivot on.
	Name   string
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Listen func(ctx context.Context, address string) (net.Listener, error)
}

// The names of the paths.
const (
	TCP      = "transport=tcp"       // package net, the reference
	TCPAgain = "transport=tcp-again" // the same once more: what differs from TCP is noise
	Fallback = "transport=fallback"  // plain TCP through package iwarp: the listener looks at the first bytes
	SoftCRC  = "transport=soft/crc=on"
	Soft     = "transport=soft/crc=off"
	TLS      = "transport=tls" // crypto/tls over package net
)

// Paths returns every path, the reference first.
func Paths() []Path {
	return []Path{
		plain(TCP),
		plain(TCPAgain),
		offload(Fallback, iwarp.OffloadNever, iwarp.OffloadPrefer, nil),
		offload(SoftCRC, iwarp.OffloadRequire, iwarp.OffloadRequire, []transport.Transport{soft.New(nil)}),
		offload(Soft, iwarp.OffloadRequire, iwarp.OffloadRequire, []transport.Transport{soft.New(&soft.Config{NoCRC: true})}),
		encrypted(),
	}
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
			return dial(ctx, "tcp", address)
		},
		Listen: func(ctx context.Context, address string) (net.Listener, error) {
			return listen(ctx, "tcp", address)
		},
	}
}

func plain(name string) Path {
	d := &net.Dialer{Control: pinCongestion}
	d.SetMultipathTCP(false)
	lc := &net.ListenConfig{Control: pinCongestion}
	lc.SetMultipathTCP(false)
	return path(name, d.DialContext, lc.Listen)
}

func offload(name string, dial, listen iwarp.Offload, over []transport.Transport) Path {
	d := &iwarp.Dialer{Control: pinCongestion, Offload: dial, Transports: over}
	lc := &iwarp.ListenConfig{Control: pinCongestion, Offload: listen, Transports: over}
	return path(name, d.DialContext, lc.Listen)
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
