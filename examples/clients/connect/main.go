// Command connect has a server and a client of connect-go over iWARP: they are net/http's.
//
//	-l, err := net.Listen("tcp", "127.0.0.1:0")
//	+l, err := iwarp.Listen("tcp", "127.0.0.1:0")
//	 go http.Serve(l, handler)
//	 client := greet.NewClient(&http.Client{Transport: &http.Transport{
//	+	DialContext: iwarp.DialContext,
//	 }}, url)
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"connectrpc.com/connect"
	text "google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rdmanet/iwarp"
)

func main() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	const greet = "/greet.v1.Greet/Greet"
	handler := connect.NewUnaryHandler(greet, func(_ context.Context, r *connect.Request[text.StringValue]) (*connect.Response[text.StringValue], error) {
		return connect.NewResponse(text.String("hello from " + r.Msg.Value)), nil
	})
	go func() { log.Fatal(http.Serve(l, handler)) }()
	httpClient := &http.Client{Transport: &http.Transport{DialContext: iwarp.DialContext}}
	client := connect.NewClient[text.StringValue, text.StringValue](httpClient, "http://"+l.Addr().String()+greet)
	answer, err := client.CallUnary(context.Background(), connect.NewRequest(text.String("connect")))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Msg.Value)
}
