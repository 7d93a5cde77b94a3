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
	"sync"
)

// Addresses tells where the peer listens for each path, by the path's name.
type Addresses map[string]string

// What a client asks of the peer, in front of each exchange.
const (
	opEcho  = 'e' // send back count messages of size bytes, or every message until the end of the stream if count is 0
	opSink  = 's' // take count messages of size bytes, or all until the end of the stream, and answer with their total
	opUsage = 'u' // answer with the processor time used so far, in ns
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
	Addresses Addresses
	stop      func() error
}

// Close ends the peer and its connections.
func (p *Peer) Close() error { return p.stop() }

// StartLocal runs the peer on goroutines of this process.
func StartLocal(ctx context.Context, paths []Path) (*Peer, error) {
	s := &server{conns: map[net.Conn]struct{}{}}
	addrs := Addresses{}
	for _, p := range paths {
		l, err := p.Listen(ctx, "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: %w", p.Name, err), s.close())
		}
		addrs[p.Name] = l.Addr().String()
		s.listeners = append(s.listeners, l)
		s.wg.Go(func() { s.accept(l) })
	}
	return &Peer{Addresses: addrs, stop: s.close}, nil
}

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
func MaybePeer() {
	if os.Getenv(peerEnv) == "" {
		return
	}
	if err := runPeer(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark peer:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runPeer(in io.Reader, out io.Writer) error {
	p, err := StartLocal(context.Background(), Paths())
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
	listeners []net.Listener
	wg        sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
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
			serve(c)
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
	for _, l := range s.listeners {
		l.Close()
	}
	for _, c := range conns {
		c.Close()
	}
	s.wg.Wait()
	return nil
}
