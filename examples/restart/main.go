// Command restart is an HTTP server that is replaced by a new process without a client noticing:
// neither is a connection refused, nor a request cut off.
//
//	restart -listen :8080
//	kill -HUP <pid>         # the new process says its own
//
// The old process starts the new one with a copy of its listening socket, and waits until that
// serves. Then it drains its Listener, which leaves new clients to the new process, and ends when
// the requests that it has are answered.
//
// Started by systemd for a socket unit, it serves on that socket. systemctl restart then loses no
// client either: they wait in the socket's queue for the new process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp"
)

// handedOver is set for a process that takes over. Its descriptor 3 is then the socket, and to 4 it
// writes a byte once it listens.
const handedOver = "RESTART_HANDED_OVER"

const (
	// patience bounds the start of the new process, and the requests that the old one has.
	patience = 30 * time.Second
	// grace is what clients that are connected have to send their first request.
	grace = time.Second
)

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "serve on this `address`")
	flag.Parse()
	if err := serve(*address, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "restart:", err)
		os.Exit(1)
	}
}

// serve serves until the process is interrupted or replaced.
func serve(address string, out io.Writer) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	l, err := listen(address)
	if err != nil {
		return err
	}
	var waiting firstRequests
	srv := &http.Server{Handler: waiting.answered(http.HandlerFunc(handle)), ConnState: waiting.note, ConnContext: waiting.know}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	fmt.Fprintf(out, "process %d serves on %v\n", os.Getpid(), l.Addr())

	for {
		select {
		case err := <-served:
			return err
		case s := <-signals:
			if s == syscall.SIGHUP {
				if err := replace(l, out); err != nil {
					fmt.Fprintln(out, "goes on, as there is no other process:", err)
					continue
				}
			}
			if err := drain(l, served); err != nil {
				return err
			}
			waiting.await(grace)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return srv.Shutdown(ctx) // waits for the requests that are under way
		}
	}
}

// listen makes a Listener of the socket that the old process has handed over, or systemd, or else a
// new one.
func listen(address string) (l *iwarp.Listener, err error) {
	if os.Getenv(handedOver) != "" {
		_ = os.Unsetenv(handedOver)
		f := os.NewFile(3, "handed over")
		defer f.Close() // Adopt copies it
		r, err := iwarp.DefaultPortSpace.Adopt(f)
		if err != nil {
			return nil, err
		}
		address = r.Addr().String() // where Listen finds the reservation
		ready := os.NewFile(4, "ready")
		defer ready.Close()
		defer func() {
			if err == nil {
				_, err = ready.Write([]byte{1})
			}
		}()
	}
	inherited, err := iwarp.DefaultPortSpace.Inherit()
	if err != nil {
		return nil, err
	}
	if len(inherited) > 0 {
		address = inherited[0].Addr().String()
	}
	nl, err := iwarp.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return nl.(*iwarp.Listener), nil
}

// replace starts the program anew with the socket, and returns once that listens.
func replace(l *iwarp.Listener, out io.Writer) error {
	socket, err := l.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()

	c := exec.Command(os.Args[0], os.Args[1:]...)
	c.Env = append(os.Environ(), handedOver+"=1")
	c.ExtraFiles = []*os.File{socket, theirs} // 3 and 4 there
	c.Stdout, c.Stderr = out, os.Stderr
	err = c.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	go func() { _ = c.Wait() }()
	_ = ready.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		_ = c.Process.Kill()
		return fmt.Errorf("new process is not ready: %w", err)
	}
	return nil
}

// drain leaves new clients to whoever has the socket as well, or takes all that have come. Serve
// then returns net.ErrClosed, although requests are still under way.
func drain(l *iwarp.Listener, served <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.Drain(ctx); err != nil {
		return err
	}
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// firstRequests are those that an http.Server still waits for, by connection. Shutdown would close
// these connections without an answer (net/http/server.go, conn.serve), and a client takes that for
// an error where its connection is a new one.
type firstRequests struct{ conns sync.Map }

type connKey struct{}

func (f *firstRequests) know(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func (f *firstRequests) note(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		f.conns.Store(c, nil)
	case http.StateClosed, http.StateHijacked:
		f.conns.Delete(c)
	}
}

func (f *firstRequests) answered(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.conns.Delete(r.Context().Value(connKey{}))
		h.ServeHTTP(w, r)
	})
}

// await waits until all have come to a handler, or the time is over.
func (f *firstRequests) await(limit time.Duration) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); <-tick.C {
		none := true
		f.conns.Range(func(any, any) bool {
			none = false
			return false
		})
		if none {
			return
		}
	}
}

// handle takes some time for what it says, as handlers do.
func handle(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "process %d, ", os.Getpid())
	_ = http.NewResponseController(w).Flush()
	select {
	case <-r.Context().Done():
	case <-time.After(20 * time.Millisecond):
		fmt.Fprintln(w, "whole")
	}
}
