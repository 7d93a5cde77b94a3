package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// serve serves files on l, and says of every connection which path it took. The caller must call
// stop.
func serve(out io.Writer, l net.Listener, files http.FileSystem) (stop func() error) {
	mux := http.NewServeMux()
	mux.Handle("GET /files/", http.StripPrefix("/files", http.FileServer(files)))
	mux.Handle("GET /sha256/", http.StripPrefix("/sha256", checksums(files)))

	s := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateNew {
				fmt.Fprintf(out, "  server: connection from %v over %s\n", c.RemoteAddr(), describe(c))
			}
		},
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()

	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := s.Shutdown(ctx)
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}
}

// checksums answers with the SHA-256 of the file at the path, in hexadecimal.
func checksums(files http.FileSystem) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := files.Open(r.URL.Path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			http.Error(w, "cannot read the file", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%x\n", h.Sum(nil))
	})
}

// oneFile is a file system that shows the file at a path, and nothing of what lies beside it.
type oneFile string

func (f oneFile) Open(name string) (http.File, error) {
	if name != "/"+filepath.Base(string(f)) {
		return nil, fs.ErrNotExist
	}
	return os.Open(string(f))
}
