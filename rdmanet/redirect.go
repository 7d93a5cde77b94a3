package rdmanet

import (
	"errors"
	"fmt"

	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/transport"
)

// askFor adds to the connection data what k is to say about redirects.
func askFor(own *connData, k transport.Connector) {
	r, ok := k.(*redirect.Connector)
	if !ok || own.ext == nil {
		return
	}
	own.ext.redirectable, own.ext.onlyAsks = r.Takes != redirect.Stream, r.Takes == redirect.OnlyTo
	own.ext.service = r.Service
}

// turnAway answers a client that is to go elsewhere, or that wants another service than the one of
// r. It returns nil if the client is to be served.
func turnAway(r *redirect.Request, peer *connData) error {
	if r.Port != nil && peer.ext != nil && peer.ext.redirectable {
		to := r.Port()
		if to != 0 || peer.ext.onlyAsks {
			e := extension{redirect: to}
			if to != 0 {
				e.service = r.Service
			}
			_ = r.Reject(e.append(nil)) // a client that has gone is no failure
			return redirect.ErrSent
		}
	}
	if r.Else != nil {
		_ = r.Reject(nil)
		return r.Else
	}
	if r.Service != 0 && peer.ext != nil && peer.ext.service != 0 && peer.ext.service != r.Service {
		_ = r.Reject(refusal(peer))
		return fmt.Errorf("peer wants the service at port %d; this is the one at port %d", peer.ext.service, r.Service)
	}
	return nil
}

// refusal is what a peer whose connection cannot be had is told.
func refusal(peer *connData) []byte {
	if peer.ext == nil {
		return nil
	}
	return (&extension{}).append(nil)
}

// redirected returns what a refusal says for a client that can be redirected.
func redirected(err error) error {
	var rejected *transport.RejectedError
	if !errors.As(err, &rejected) {
		return err
	}
	if e, perr := parseExtension(rejected.PrivateData); perr == nil && e != nil && e.redirect != 0 {
		return &redirect.To{Port: e.redirect, Service: e.service}
	}
	return err
}
