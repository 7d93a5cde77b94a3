// Package caddy has Caddy serve iWARP and plain TCP from one port, through reloads of its
// configuration as well. It is to be copied, or imported in a Caddy built with xcaddy:
//
//	{"listen": ["iwarp/:8080"]}     in place of ":8080" in Caddy's JSON
//	bind iwarp/0.0.0.0              in a site of a Caddyfile
package caddy

import (
	"context"
	"net"

	"github.com/caddyserver/caddy/v2"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/test/services/handoff"
)

// sockets outlive the configurations.
var sockets handoff.Sockets

func init() { caddy.RegisterNetwork("iwarp", listen) }

func listen(ctx context.Context, _, host, portRange string, offset uint, config net.ListenConfig) (any, error) {
	address, err := caddy.ParseNetworkAddress(caddy.JoinNetworkAddress("tcp", host, portRange))
	if err != nil {
		return nil, err
	}
	lc := &iwarp.ListenConfig{
		Control:         config.Control,
		KeepAlive:       config.KeepAlive,
		KeepAliveConfig: config.KeepAliveConfig,
	}
	return sockets.Listen(ctx, lc, "tcp", address.JoinHostPort(offset))
}
