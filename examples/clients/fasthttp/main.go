// Command fasthttp has a server and a client of fasthttp over iWARP.
//
//	-l, err := net.Listen("tcp", "127.0.0.1:0")
//	+l, err := iwarp.Listen("tcp", "127.0.0.1:0")
//	 go fasthttp.Serve(l, handler)
//	 client := &fasthttp.Client{
//	+	Dial: func(address string) (net.Conn, error) { return iwarp.Dial("tcp", address) },
//	 }
package main

import (
	"fmt"
	"log"
	"net"

	"github.com/valyala/fasthttp"

	"github.com/rdmanet/iwarp"
)

func main() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		_ = fasthttp.Serve(l, func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("hello from fasthttp") })
	}()
	client := &fasthttp.Client{Dial: func(address string) (net.Conn, error) { return iwarp.Dial("tcp", address) }}
	_, body, err := client.Get(nil, "http://"+l.Addr().String())
	fmt.Println(string(body), err)
}
