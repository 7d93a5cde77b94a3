// Package redirect is what a listener and a dialer of package iwarp say below the stream, so that a
// client gets to the port where the server's RDMA device listens: package rdmanet puts it into the
// connection request and into its refusal. A refusal also says why.
package redirect

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/rdmanet/iwarp/transport"
)

// ErrSent is what rdmanet.Server returns once a client was redirected.
var ErrSent = errors.New("client was redirected")

// Answers says what a client accepts as an answer to its request.
type Answers uint8

const (
	Stream     Answers = iota // nothing but a stream
	StreamOrTo                // or a *To in its place
	OnlyTo                    // a *To or a refusal; a server that knows of no redirects gives it a stream
)

// A Connector makes rdmanet.Client say what the client of a redirecting server has to say. It means
// nothing to an rsocket.
type Connector struct {
	transport.Connector
	Takes   Answers
	Service uint16 // To.Service of the answer that has led here; 0 means no statement
}

// A Request makes rdmanet.Server redirect the client, or refuse it.
type Request struct {
	transport.Request

	// Service is the port of the service, as the listener has it. A client that wants another service
	// is refused: the port may have changed hands since the client was told of it.
	Service uint16

	// Redirects is true if clients that can be redirected are, to the port that Host says.
	Redirects bool

	// Host decides about clients. nil means that those that are refused are not told why.
	Host Host

	// Else, if not nil, is why clients that are not redirected are refused.
	Else error
}

// A Host is the listener that a Request has come to.
type Host interface {
	// Port returns the port for clients that can be redirected, or 0, in which case only those that
	// take nothing else are refused. It is called for no other clients.
	Port() uint16
	// Why returns what a client that is refused for an error is told.
	Why(error) Why
}

// A To is the answer of a server that wants the client to connect to Port at the same address.
// errors.Is finds syscall.ECONNREFUSED in it.
type To struct {
	Port    uint16
	Service uint16 // for Connector.Service there; 0 means that the server does not say
}

func (t *To) Error() string { return fmt.Sprintf("peer redirects to port %d", t.Port) }

// Unwrap returns syscall.ECONNREFUSED.
func (t *To) Unwrap() error { return syscall.ECONNREFUSED }
