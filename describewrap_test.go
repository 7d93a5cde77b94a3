package iwarp_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/netutil"

	"github.com/rdmanet/iwarp"
)

// muxConn is made as that of soheilhy/cmux.
type muxConn struct {
	net.Conn
	_ bytes.Buffer
}

// proxyConn is made as that of pires/go-proxyproto: its addresses are those of the client that the
// proxy has told.
type proxyConn struct {
	conn net.Conn
	_    *bufio.Reader
	_    sync.Once
	noDeadlines
}

type noDeadlines struct{}

func (noDeadlines) SetDeadline(time.Time) error      { return nil }
func (noDeadlines) SetReadDeadline(time.Time) error  { return nil }
func (noDeadlines) SetWriteDeadline(time.Time) error { return nil }

func (p *proxyConn) Raw() net.Conn        { return p.conn }
func (p *proxyConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }
func (p *proxyConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 1} }

func (p *proxyConn) Read(b []byte) (int, error)  { return p.conn.Read(b) }
func (p *proxyConn) Write(b []byte) (int, error) { return p.conn.Write(b) }
func (p *proxyConn) Close() error                { return p.conn.Close() }

// olderProxyConn is made as that of armon/go-proxyproto, and shows nothing but addresses; without a
// header these are the connection's.
type olderProxyConn struct {
	conn net.Conn
	noDeadlines
}

func (p *olderProxyConn) LocalAddr() net.Addr         { return p.conn.LocalAddr() }
func (p *olderProxyConn) RemoteAddr() net.Addr        { return p.conn.RemoteAddr() }
func (p *olderProxyConn) Read(b []byte) (int, error)  { return p.conn.Read(b) }
func (p *olderProxyConn) Write(b []byte) (int, error) { return p.conn.Write(b) }
func (p *olderProxyConn) Close() error                { return p.conn.Close() }

// trackedConn has what it is made of in a struct that others do not see, as servers have that count
// bytes, and the address of the client that a proxy has told.
type trackedConn struct {
	counted
	client net.Addr
}

func (c *trackedConn) RemoteAddr() net.Addr { return c.client }

type counted struct {
	net.Conn
	_ int64
}

// TestDescribeUnderLibraries finds the connections of both ends below those that other libraries
// hand out.
func TestDescribeUnderLibraries(t *testing.T) {
	wraps := map[string]func(c net.Conn) net.Conn{
		"cmux":                            func(c net.Conn) net.Conn { return &muxConn{Conn: c} },
		"proxy protocol":                  func(c net.Conn) net.Conn { return &proxyConn{conn: c} },
		"proxy protocol, older":           func(c net.Conn) net.Conn { return &olderProxyConn{conn: c} },
		"tls":                             func(c net.Conn) net.Conn { return tls.Server(c, nil) },
		"counted":                         func(c net.Conn) net.Conn { return &trackedConn{counted: counted{Conn: c}, client: &net.IPAddr{}} },
		"tls over cmux":                   func(c net.Conn) net.Conn { return tls.Client(&muxConn{Conn: c}, nil) },
		"cmux over tls":                   func(c net.Conn) net.Conn { return &muxConn{Conn: tls.Server(c, nil)} },
		"tls over cmux over the protocol": func(c net.Conn) net.Conn { return tls.Server(&muxConn{Conn: &olderProxyConn{conn: c}}, nil) },
	}
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			inner, err := (&iwarp.ListenConfig{Offload: policy}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			l := netutil.LimitListener(inner, 1)
			defer l.Close()
			c, s := meet(t, l, func() net.Conn {
				c := dial(t, l, policy)
				_, err := io.WriteString(c, "x")
				noError(t, err)
				return c
			})
			transport := "tcp"
			if policy == iwarp.OffloadPrefer || policy == iwarp.OffloadRequire {
				transport = "soft"
			}
			for name, wrap := range wraps {
				require.Equal(t, describe(t, c), describe(t, wrap(c)), name)
				require.Equal(t, transport, describe(t, wrap(s)).Transport, "netutil below %s", name)
			}
		})
	}
}
