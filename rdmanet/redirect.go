package rdmanet

import (
	"fmt"
	"syscall"

	"github.com/pkg/errors"

	"github.com/rdmanet/iwarp/transport"
)

// A RedirectError says that a server refused the connection and wants another one to Port at the
// same address, where its RDMA device listens, with Service for the Config.Service of that one.
// Client returns it if Config.Redirectable is set. errors.Is finds syscall.ECONNREFUSED in it.
type RedirectError struct {
	Port    uint16
	Service uint16 // 0 means that the server does not say
}

func (e *RedirectError) Error() string { return fmt.Sprintf("peer redirects to port %d", e.Port) }

// Unwrap returns syscall.ECONNREFUSED.
func (e *RedirectError) Unwrap() error { return syscall.ECONNREFUSED }

// Redirect refuses the request of a client that can be redirected, and sends it to the port that
// port returns; it reports whether it did. Service is the Config.Service of the Server there. The
// requests of other clients are left to Server. If port returns 0, so are all but those that only
// ask, which are refused. An error says that the refusal may not have arrived.
func Redirect(r transport.Request, service uint16, port func() uint16) (bool, error) {
	peer, err := parseConnData(r.PrivateData())
	if err != nil || peer.ext == nil || !peer.ext.redirectable {
		return false, nil
	}
	to := port()
	if to == 0 && !peer.ext.onlyAsks {
		return false, nil
	}
	if to == 0 {
		service = 0
	}
	e := extension{redirect: to, service: service}
	return true, errors.Wrap(r.Reject(e.append(nil)), "redirect the client")
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
		return &RedirectError{e.redirect, e.service}
	}
	return err
}
