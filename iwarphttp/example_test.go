package iwarphttp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/iwarphttp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

func Example() {
	only := []transport.Transport{soft.New(nil)} // for the same output everywhere
	l, err := (&iwarp.ListenConfig{Transports: only}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		ConnContext: iwarphttp.ConnContext,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			info, _ := iwarphttp.FromRequest(r)
			fmt.Fprintln(w, "you came by", info.Transport)
		}),
	}
	go server.Serve(l)
	defer server.Close()

	dialer := &iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: only}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://" + l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	io.Copy(os.Stdout, r.Body)
	// Output: you came by soft
}
