package rdmanet

import (
	"errors"
	"fmt"

	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// askFor adds what k says about redirects to the connection data.
func askFor(own *wire.ConnData, k transport.Connector) {
	r, ok := k.(*redirect.Connector)
	if !ok || own.Ext == nil {
		return
	}
	own.Ext.Redirectable, own.Ext.OnlyAsks = r.Takes != redirect.Stream, r.Takes == redirect.OnlyTo
	own.Ext.Service = r.Service
}

// turnAway answers a client that must go elsewhere, or that wants a service other than that of r.
// It returns nil if the client is to be served.
func turnAway(r *redirect.Request, peer *wire.ConnData) error {
	if r.Redirects && peer.Ext != nil && peer.Ext.Redirectable {
		if to := r.Host.Port(); to != 0 {
			e := wire.Extension{Redirect: to, Service: r.Service}
			_ = r.Reject(e.Append(nil)) // a client that has gone is no failure
			return redirect.ErrSent
		}
		if peer.Ext.OnlyAsks {
			_ = r.Reject(refusal(peer, why(r, transport.ErrNoDevice)))
			return redirect.ErrSent
		}
	}
	if r.Else != nil {
		_ = r.Reject(refusal(peer, why(r, r.Else)))
		return r.Else
	}
	if r.Service != 0 && peer.Ext != nil && peer.Ext.Service != 0 && peer.Ext.Service != r.Service {
		_ = r.Reject(refusal(peer, redirect.WhyUnsaid))
		return fmt.Errorf("peer wants the service at port %d; this is the one at port %d", peer.Ext.Service, r.Service)
	}
	return nil
}

// why returns what a client that is refused for err is told.
func why(r transport.Request, err error) redirect.Why {
	if l, ok := r.(*redirect.Request); ok && l.Host != nil {
		return l.Host.Why(err)
	}
	return redirect.WhyUnsaid
}

// refusal is what a peer whose connection cannot be had is told.
func refusal(peer *wire.ConnData, why redirect.Why) []byte {
	if peer.Ext == nil {
		return nil
	}
	return (&wire.Extension{Why: uint8(why)}).Append(nil)
}

func init() {
	redirect.Refusal = func(request []byte, why redirect.Why) []byte {
		peer, err := wire.ParseConnData(request)
		if err != nil {
			return nil
		}
		return refusal(peer, why)
	}
}

// refused returns what a refusal says: where to go for a client that can be redirected, otherwise
// why.
func refused(err error, redirectable bool) error {
	var rejected *transport.RejectedError
	if !errors.As(err, &rejected) {
		return err
	}
	e, perr := wire.ParseExtension(rejected.PrivateData)
	switch {
	case perr != nil || e == nil:
	case redirectable && e.Redirect != 0:
		return &redirect.To{Port: e.Redirect, Service: e.Service}
	case e.Why != 0:
		return &redirect.Refused{Why: redirect.Why(e.Why), Rejected: rejected}
	}
	return err
}
