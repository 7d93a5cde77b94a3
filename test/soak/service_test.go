package soak

import (
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// A service echoes what its clients send, and now and then kills one.
type service struct {
	l       net.Listener
	address string
	kills   bool
	wg      sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool // nil once the service has ended
}

func mustListen(t *testing.T, address string) *service {
	s, err := listen(address, false)
	require.NoError(t, err)
	return s
}

func listen(address string, kills bool) (*service, error) {
	lc := &iwarp.ListenConfig{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{soft.New(nil)}}
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &service{l: l, address: l.Addr().String(), kills: kills, open: make(map[net.Conn]bool)}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				if s.enter(c) {
					s.echo(c.(conn))
				}
				s.leave(c)
			})
		}
	})
	return s, nil
}

func (s *service) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return false
	}
	s.open[c] = true
	return true
}

func (s *service) leave(c net.Conn) {
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
	_ = c.Close()
}

func (s *service) echo(c conn) {
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		if s.kills && rand.IntN(2000) == 0 {
			if rand.IntN(2) == 0 {
				_ = c.SetLinger(0)
			}
			return
		}
	}
}

// close ends the service as the end of its process would.
func (s *service) close() {
	_ = s.l.Close()
	s.mu.Lock()
	list := slices.Collect(maps.Keys(s.open))
	s.open = nil
	s.mu.Unlock()
	for _, c := range list {
		_ = c.Close()
	}
	s.wg.Wait()
}
