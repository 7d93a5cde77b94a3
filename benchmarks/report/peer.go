package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A hello is what a peer on another host says to whoever connects.
type hello struct {
	Protocol int               `json:"protocol"`
	Machine  machine           `json:"machine"`
	Ports    map[string]string `json:"ports"` // by path and service
}

const (
	protocol     = 1
	helloLimit   = 64 << 10 // bytes
	helloTimeout = 10 * time.Second
)

// listen is the peer for other hosts until ctx is done. It uses the port of the address for its
// hello, and those that follow for each path and service.
func listen(ctx context.Context, address string, log io.Writer) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer l.Close()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	first := l.Addr().(*net.TCPAddr).Port
	var paths []lab.Path
	for _, p := range lab.Paths() {
		if !p.OneHost {
			paths = append(paths, p)
		}
	}
	peer, err := lab.Start(ctx, host, first+1, paths, services()...)
	if err != nil {
		return err
	}
	h := hello{Protocol: protocol, Machine: thisMachine(), Ports: map[string]string{}}
	for name, address := range peer.Addresses {
		if _, h.Ports[name], err = net.SplitHostPort(address); err != nil {
			return errors.Join(err, peer.Close())
		}
	}
	fmt.Fprintf(log, "listening on %v and the %d ports that follow, for anybody; interrupt to end\n", l.Addr(), len(h.Ports))
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		greet(c, h)
	}
	err = peer.Close()
	if ctx.Err() == nil {
		err = errors.Join(errors.New("the listener has failed"), err)
	}
	return err
}

func greet(c net.Conn, h hello) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	_ = json.NewEncoder(c).Encode(h)
}

// connectPeer finds the peer that listens at the address.
func connectPeer(ctx context.Context, address string) (*lab.Peer, machine, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, machine{}, err
	}
	h, err := readHello(ctx, address)
	if err != nil {
		return nil, machine{}, fmt.Errorf("no peer at %s: %w", address, err)
	}
	peer := &lab.Peer{Addresses: map[string]string{}}
	for name, port := range h.Ports {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, machine{}, err
		}
		peer.Addresses[name] = net.JoinHostPort(host, port)
	}
	return peer, h.Machine, nil
}

func readHello(ctx context.Context, address string) (h hello, err error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return h, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	line, err := bufio.NewReader(io.LimitReader(c, helloLimit)).ReadBytes('\n')
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return h, err
	}
	if h.Protocol != protocol {
		return h, fmt.Errorf("it speaks version %d, this program %d", h.Protocol, protocol)
	}
	return h, nil
}
