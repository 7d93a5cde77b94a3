package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
)

// A Service is what the peer offers on every path besides the measurements of this package.
type Service struct {
	Name string // as the value of a key
	// Serve serves what l accepts until the function that it returns is called, which closes l.
	Serve func(l net.Listener) (stop func())
}

// What a client asks of the peer, in front of each exchange.
const (
	opEcho   = 'e' // send back count messages of size bytes, or every message until the end of the stream if count is 0
	opSink   = 's' // take count messages of size bytes, or all until the end of the stream, and answer with their total
	opUsage  = 'u' // answer with the process's Usage
	opMemory = 'm' // the same after a garbage collection
)

const (
	requestLen = 16
	answerLen  = 8
)

type request struct {
	op    byte
	size  uint32
	count uint64
}

func (r request) put(b []byte) {
	clear(b[:requestLen])
	b[0] = r.op
	binary.BigEndian.PutUint32(b[4:], r.size)
	binary.BigEndian.PutUint64(b[8:], r.count)
}

func parseRequest(b []byte) request {
	return request{op: b[0], size: binary.BigEndian.Uint32(b[4:]), count: binary.BigEndian.Uint64(b[8:])}
}

// Peer is the other end of every measurement.
type Peer struct {
	// Addresses tells where it listens, by the path's and the service's name.
	Addresses map[string]string
	stop      func() error
}

// Address returns where the peer offers the service on p, "" for the measurements of this package.
func (p *Peer) Address(on Path, service string) string { return p.Addresses[at(on, service)] }

func at(p Path, service string) string {
	if service == "" {
		return p.Name
	}
	return p.Name + "/service=" + service
}

// Close ends the peer and its connections, unless it runs on another host.
func (p *Peer) Close() error {
	if p.stop == nil {
		return nil
	}
	return p.stop()
}

// StartLocal runs the peer on goroutines of this process, on ports that the system chooses.
func StartLocal(ctx context.Context, paths []Path, services ...Service) (*Peer, error) {
	return Start(ctx, "127.0.0.1", 0, paths, services...)
}

// Start runs the peer on goroutines of this process: at host, and from port on, unless that is 0.
func Start(ctx context.Context, host string, port int, paths []Path, services ...Service) (*Peer, error) {
	s := &server{conns: map[net.Conn]struct{}{}}
	p := &Peer{Addresses: map[string]string{}, stop: s.close}
	services = append([]Service{{Serve: s.start}}, services...)
	for _, path := range paths {
		for _, service := range services {
			address := net.JoinHostPort(host, strconv.Itoa(port))
			if path.Name == Unix {
				address = fmt.Sprintf("@iwarp-benchmark-%d-%d", os.Getpid(), unixNumber.Add(1))
			} else if port != 0 {
				port++
			}
			l, err := path.Listen(ctx, address)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("listen on %s for %s: %w", address, path.Name, err), s.close())
			}
			p.Addresses[at(path, service.Name)] = l.Addr().String()
			s.stops = append(s.stops, service.Serve(l))
		}
	}
	return p, nil
}

// unixNumber counts the Unix sockets of this process.
var unixNumber atomic.Int64

// peerEnv makes an executable that calls MaybePeer the peer of the process that started it.
const peerEnv = "IWARP_BENCHMARK_PEER"

// StartProcess runs the peer in a process of its own: this executable, whose main or TestMain must
// call MaybePeer first.
func StartProcess(ctx context.Context) (*Peer, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), peerEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Peer{stop: func() error { return errors.Join(in.Close(), cmd.Wait()) }}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.Addresses)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the peer process: %w", err), p.Close())
	}
	return p, nil
}

// MaybePeer returns at once, unless StartProcess started this process: then it is the peer until
// the parent closes its standard input, and exits.
func MaybePeer(services ...Service) {
	if os.Getenv(peerEnv) == "" {
		return
	}
	if err := runPeer(os.Stdin, os.Stdout, services); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark peer:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runPeer(in io.Reader, out io.Writer, services []Service) error {
	p, err := StartLocal(context.Background(), Paths(), services...)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(p.Addresses); err != nil {
		return errors.Join(err, p.Close())
	}
	_, err = io.Copy(io.Discard, in)
	return errors.Join(err, p.Close())
}

type server struct {
	stops []func()
	wg    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// start is the Serve of the measurements.
func (s *server) start(l net.Listener) (stop func()) {
	s.wg.Go(func() { s.accept(l) })
	return func() { l.Close() }
}

func (s *server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if !s.add(c) {
			c.Close()
			return
		}
		s.wg.Go(func() {
			defer s.remove(c)
			s.serve(c)
		})
	}
}

func (s *server) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *server) remove(c net.Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.Close()
}

func (s *server) close() error {
	s.mu.Lock()
	s.closed = true
	conns := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, stop := range s.stops {
		stop()
	}
	for _, c := range conns {
		c.Close()
	}
	s.wg.Wait()
	return nil
}
