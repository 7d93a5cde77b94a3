// Httpd serves net/http over package iwarp, for clients that do not know that: /N is N bytes, and a
// body that is posted is answered by its length and digest. IWARP_OFFLOAD says which clients it
// takes.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"time"

	"github.com/rdmanet/iwarp"
)

func main() {
	log.SetFlags(0)
	addr := flag.String("l", "", "`address` and port to listen on")
	flag.Parse()
	ln, err := iwarp.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s", ln.Addr())
	srv := http.Server{Handler: http.HandlerFunc(serve), ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
	log.Fatal(srv.Serve(ln))
}

func serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Fprintf(w, "%d %x\n", n, h.Sum(nil))
		return
	}
	n, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil || n < 0 {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(n))
	b := make([]byte, 64<<10)
	for i := range b {
		b[i] = byte(i % 251)
	}
	for n > 0 {
		k, err := w.Write(b[:min(n, len(b))])
		if n -= k; err != nil {
			log.Print(err)
			return
		}
	}
}
