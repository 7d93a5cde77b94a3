package iwarpgrpc

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/iwarphttp"
)

// AuthInfo is the credentials.AuthInfo of connections with the credentials of NewCredentials. In
// AuthInfo it has that of the credentials inside, such as a credentials.TLSInfo, and does for gRPC
// what that does.
type AuthInfo struct {
	credentials.AuthInfo // may be nil, where that is what the credentials inside have

	Info  iwarp.Info
	Known bool // Info was found; it is not for a connection that is not of package iwarp
}

// AuthType implements credentials.AuthInfo.
func (a AuthInfo) AuthType() string {
	if a.AuthInfo == nil {
		return ""
	}
	return a.AuthInfo.AuthType()
}

// GetCommonAuthInfo returns the security level that the credentials inside have reached.
func (a AuthInfo) GetCommonAuthInfo() credentials.CommonAuthInfo {
	if i, ok := a.AuthInfo.(interface {
		GetCommonAuthInfo() credentials.CommonAuthInfo
	}); ok {
		return i.GetCommonAuthInfo()
	}
	return credentials.CommonAuthInfo{} // which gRPC takes like none
}

// ValidateAuthority implements credentials.AuthorityValidator.
func (a AuthInfo) ValidateAuthority(authority string) error {
	if v, ok := a.AuthInfo.(credentials.AuthorityValidator); ok {
		return v.ValidateAuthority(authority)
	}
	return errNoAuthority
}

var errNoAuthority = errors.New("the credentials do not let a call override the authority")

// GetSecurityValue implements credentials.ChannelzSecurityInfo.
func (a AuthInfo) GetSecurityValue() credentials.ChannelzSecurityValue {
	if c, ok := a.AuthInfo.(credentials.ChannelzSecurityInfo); ok {
		return c.GetSecurityValue()
	}
	return nil
}

// NewCredentials returns credentials that do what inside does, and whose AuthInfo is an AuthInfo of
// this package. Code that asserts another type for the AuthInfo of a peer, as for client
// certificates, must look inside by FromPeer.
func NewCredentials(inside credentials.TransportCredentials) credentials.TransportCredentials {
	return wrapper{inside}
}

type wrapper struct {
	credentials.TransportCredentials
}

func (w wrapper) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info, known := iwarp.Describe(c)
	secure, auth, err := w.TransportCredentials.ClientHandshake(ctx, authority, c)
	if err != nil {
		return secure, auth, err
	}
	return secure, AuthInfo{auth, info, known}, nil
}

func (w wrapper) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info, known := iwarp.Describe(c)
	secure, auth, err := w.TransportCredentials.ServerHandshake(c)
	if err != nil { // also credentials.ErrConnDispatched, which gRPC compares
		return secure, auth, err
	}
	return secure, AuthInfo{auth, info, known}, nil
}

func (w wrapper) Clone() credentials.TransportCredentials {
	return wrapper{w.TransportCredentials.Clone()}
}

// FromContext returns the path of the connection that an RPC came by, or, with the context of a
// client's stream or in its stats.Handler, goes by. It is false where the connection is not of
// package iwarp, or does not have the credentials of this package. Where gRPC's server is used as
// an http.Handler, the server of net/http must have iwarphttp.ConnContext instead.
func FromContext(ctx context.Context) (iwarp.Info, bool) {
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := FromPeer(p); ok {
			return a.Info, a.Known
		}
	}
	return iwarphttp.FromContext(ctx)
}

// FromPeer returns the AuthInfo of a peer, such as one that grpc.Peer has filled in for a client.
// It is false where the connection does not have the credentials of this package.
func FromPeer(p *peer.Peer) (AuthInfo, bool) {
	if p == nil {
		return AuthInfo{}, false
	}
	a, ok := p.AuthInfo.(AuthInfo)
	return a, ok
}
