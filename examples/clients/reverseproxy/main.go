// Command reverseproxy passes requests on: its clients and its backend may both speak iWARP.
//
//	 proxy := httputil.NewSingleHostReverseProxy(backend)
//	+proxy.Transport = &http.Transport{DialContext: new(iwarp.Dialer).DialContext} // to the backend
//	-l, err := net.Listen("tcp", os.Args[1])
//	+l, err := iwarp.Listen("tcp", os.Args[1]) // from clients
//	 log.Fatal(http.Serve(l, proxy))
package main

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"

	"github.com/rdmanet/iwarp"
)

func main() {
	backend, err := url.Parse(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(backend)
	proxy.Transport = &http.Transport{DialContext: new(iwarp.Dialer).DialContext}
	l, err := iwarp.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	log.Fatal(http.Serve(l, proxy))
}
