// Package iwarphttp has handlers of net/http know which path a request came by:
//
//	l, err := iwarp.Listen("tcp", ":8080")
//	server := &http.Server{Handler: handler, ConnContext: iwarphttp.ConnContext}
//	err = server.Serve(l)
//
// and in the handler iwarphttp.FromRequest(r). It works for HTTP/1 and HTTP/2, and over TLS. A
// client finds out by net/http/httptrace, in GotConn, with iwarp.Describe.
package iwarphttp

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/rdmanet/iwarp"
)

type key struct{}

type describe func() (iwarp.Info, bool)

// ConnContext is for the field ConnContext of an http.Server. One that is there already can return
// ConnContext(ctx, c) with what it has made of its own context.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, key{}, describe(sync.OnceValues(func() (iwarp.Info, bool) { return iwarp.Describe(c) })))
}

// FromRequest returns the path of the connection that a request came by. It is false where the
// connection is not of package iwarp, or its server has not called ConnContext. It is the same for
// all requests of a connection, and may be called at any time, by several goroutines at once.
func FromRequest(r *http.Request) (iwarp.Info, bool) { return FromContext(r.Context()) }

// FromContext is FromRequest with the context of the request, or one made of it.
func FromContext(ctx context.Context) (iwarp.Info, bool) {
	if d, ok := ctx.Value(key{}).(describe); ok {
		return d()
	}
	return iwarp.Info{}, false
}
