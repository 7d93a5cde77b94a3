package debug_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/debug"
)

// The page belongs on a server that only operators reach.
func ExampleHandler() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0") // what the page shows
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	mux := http.NewServeMux()
	mux.Handle("/debug/iwarp", debug.Handler())
	srv := httptest.NewServer(mux)
	defer srv.Close()

	r, err := http.Get(srv.URL + "/debug/iwarp")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Status, strings.Contains(string(page), l.Addr().String()))
	// Output: 200 OK true
}
