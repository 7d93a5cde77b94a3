// Command h2c has a server and a client of HTTP/2 without TLS over iWARP.
//
//	 server := &http.Server{Handler: handler, Protocols: protocols}
//	-l, err := net.Listen("tcp", "127.0.0.1:0")
//	+l, err := iwarp.Listen("tcp", "127.0.0.1:0")
//	 go server.Serve(l)
//	 client := &http.Client{Transport: &http.Transport{Protocols: protocols,
//	+	DialContext: iwarp.DialContext,
//	 }}
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/rdmanet/iwarp"
)

func main() {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello from ", r.Proto)
	})}
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(server.Serve(l)) }()
	client := &http.Client{Transport: &http.Transport{Protocols: protocols, DialContext: iwarp.DialContext}}
	answer, err := client.Get("http://" + l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	fmt.Println(string(body), err)
}
