package faults

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

var policies = []iwarp.Offload{iwarp.OffloadNever, iwarp.OffloadAuto, iwarp.OffloadPrefer, iwarp.OffloadRequire}

// A served is a listener whose connections are echoed, and a Dialer for it.
type served struct {
	t *testing.T
	l net.Listener
	d *iwarp.Dialer
}

func serve(t *testing.T, policy iwarp.Offload) *served {
	s := &session{policy: policy, patience: hang}
	lc, d := s.configs()
	d.Transports = []transport.Transport{soft.New(nil)}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go echoOn(l, func(error) {})
	t.Cleanup(func() { _ = l.Close() })
	return &served{t, l, d}
}

// echoOn echoes what comes on connections of l until it is closed, and goes on after other
// failures, as net/http does.
func echoOn(l net.Listener, failed func(error)) {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			failed(err)
			time.Sleep(time.Millisecond)
			continue
		}
		go func() {
			defer c.Close()
			b := make([]byte, 16<<10)
			for n, err := c.Read(b); err == nil; n, err = c.Read(b) {
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func (s *served) dial() (net.Conn, error) { return s.d.Dial("tcp", s.l.Addr().String()) }

// works has a byte go both ways.
func (s *served) works(c net.Conn) {
	s.t.Helper()
	require.NoError(s.t, c.SetDeadline(time.Now().Add(hang)))
	_, err := c.Write([]byte("x"))
	require.NoError(s.t, err)
	_, err = c.Read(make([]byte, 1))
	require.NoError(s.t, err)
}

// connected is a new connection that works.
func (s *served) connected() net.Conn {
	s.t.Helper()
	c, err := s.dial()
	require.NoError(s.t, err)
	s.works(c)
	return c
}

func abort(t *testing.T, c net.Conn) {
	require.NoError(t, c.(interface{ SetLinger(int) error }).SetLinger(0))
	require.NoError(t, c.Close())
}

// TestPortsExhausted has no port left to dial from: the error is package net's, those that are
// connected go on, and once one has ended another can be made.
func TestPortsExhausted(t *testing.T) {
	if !testkit.InNamespace(t) {
		return
	}
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			testkit.PortRange(t, "32768 60999") // for the listener
			s := serve(t, policy)
			testkit.PortRange(t, "20000 20003")
			var list []net.Conn
			var err error
			for range 8 {
				var c net.Conn
				if c, err = s.dial(); err != nil {
					break
				}
				s.works(c)
				list = append(list, c)
			}
			require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
			require.ErrorAs(t, err, new(*net.OpError))
			require.NotEmpty(t, list)
			for _, c := range list {
				s.works(c)
			}
			abort(t, list[0])
			var again net.Conn
			require.Eventually(t, func() bool { again, err = s.dial(); return err == nil }, hang, time.Millisecond)
			s.works(again)
			for _, c := range append(list[1:], again) {
				abort(t, c)
			}
		})
	}
}

// TestDialWithoutDescriptors finds none left: the error is that of package net, what is connected
// goes on, and so does dialing when there are some again.
func TestDialWithoutDescriptors(t *testing.T) {
	if !testkit.InNamespace(t) { // the limit is the process's
		return
	}
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			s := serve(t, policy)
			c := s.connected()
			exhaust, restore := testkit.LimitFiles(t, 256)
			for range 3 {
				// What others close meanwhile, such as a connection of an earlier test, is room for one.
				var err error
				for err == nil {
					exhaust()
					var c net.Conn
					if c, err = s.dial(); err == nil {
						abort(t, c)
					}
				}
				require.ErrorIs(t, err, syscall.EMFILE)
				require.ErrorAs(t, err, new(*net.OpError))
				s.works(c)
			}
			restore()
			require.NoError(t, s.connected().Close())
			require.NoError(t, c.Close())
		})
	}
}

// TestOneProcessor does some of the faults in a process that runs one goroutine at a time.
func TestOneProcessor(t *testing.T) {
	if runtime.GOMAXPROCS(0) == 1 {
		t.Skip("that is how all tests run here")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self, "-test.run=^TestFaults$", "-test.timeout=5m", "-sample=40")
	c.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
