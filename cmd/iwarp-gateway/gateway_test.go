package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/stretchr/testify/require"
)

// limit bounds what a test could hang in.
const limit = 30 * time.Second

// start runs a gateway with these mappings until the end of the test, or until stop.
func start(t *testing.T, o options, all ...*mapping) (g *gateway, log *testkit.Output, stop func()) {
	t.Helper()
	require.NoError(t, check(all))
	log = new(testkit.Output)
	logger, err := newLogger("text", log)
	require.NoError(t, err)
	g, err = newGateway(all, o.admin, logger)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.serve(ctx, nil, &o) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return g, log, stop
}

func parsed(t *testing.T, text string) *mapping {
	t.Helper()
	m := new(mapping)
	require.NoError(t, m.parse(text))
	return m
}

func (g *gateway) addr(i int) string { return g.listeners[i].Addr().String() }

// server runs handle for each connection to an address that it returns.
func server(t *testing.T, handle func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(limit)))
	return c.(*net.TCPConn)
}

// request sends a request and returns why there is no answer, which may show in any call.
func request(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("request")); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil {
		err = fmt.Errorf("read %q and its end", got)
	}
	return err
}

// both starts the gateways of a client and of a server, with iWARP between them.
func both(t *testing.T, server string) (address string, log *testkit.Output) {
	near, _, _ := start(t, options{drain: limit}, parsed(t, "iwarp://127.0.0.1:0=tcp://"+server))
	far, log, _ := start(t, options{drain: limit}, parsed(t, "tcp://127.0.0.1:0=iwarp://"+near.addr(0)))
	return far.addr(0), log
}

// TestCarry has a program send much through two gateways to another, which answers after its end.
func TestCarry(t *testing.T) {
	want := make([]byte, 8<<20)
	_, _ = rand.Read(want)
	address, log := both(t, server(t, func(c *net.TCPConn) {
		sum := sha256.New()
		if _, err := io.Copy(sum, c); err == nil {
			_, _ = c.Write(sum.Sum(nil))
		}
	}))
	c := dial(t, address)
	_, err := c.Write(want)
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	sum := sha256.Sum256(want)
	require.Equal(t, sum[:], got)
	require.Eventually(t, func() bool {
		return strings.Contains(log.String(), "client_path=tcp target_path=shm to_target=8388608 to_client=32")
	}, limit, time.Millisecond, "%s", log)
}

// TestReset passes on that a connection was cut, as the stream is not whole.
func TestReset(t *testing.T) {
	for name, handle := range map[string]func(c *net.TCPConn){
		"at once":     func(c *net.TCPConn) { _ = c.SetLinger(0) },
		"after bytes": func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)); _ = c.SetLinger(0) },
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := both(t, server(t, handle))
			require.ErrorIs(t, request(address), syscall.ECONNRESET)
		})
	}
	t.Run("no server", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, l.Close())
		g, log, _ := start(t, options{}, parsed(t, "127.0.0.1:0="+l.Addr().String()))
		require.ErrorIs(t, request(g.addr(0)), syscall.ECONNRESET)
		require.Eventually(t, func() bool { return strings.Contains(log.String(), "connection refused") }, limit, time.Millisecond)
	})
}

// TestSilentClient loses its place once the target, which has ended its stream, is gone.
func TestSilentClient(t *testing.T) {
	interval := goneInterval
	t.Cleanup(func() { goneInterval = interval })
	goneInterval = time.Millisecond
	gone := make(chan struct{})
	g, log, stop := start(t, options{drain: limit}, parsed(t, "tcp://127.0.0.1:0=tcp://"+server(t, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		<-gone
		_ = c.SetLinger(0)
	})))
	defer stop()
	c := dial(t, g.addr(0))
	_, err := c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.NotContains(t, log.String(), "msg=carried")
	close(gone)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "target: connection reset by peer") }, limit, time.Millisecond, "%s", log)
}

// TestProxyHeader tells the target of the client, by way of two gateways.
func TestProxyHeader(t *testing.T) {
	heads := make(chan *proxyproto.Header, 2)
	target := server(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		h, err := proxyproto.Read(r)
		if err != nil {
			close(heads)
			return
		}
		heads <- h
		_, _ = io.Copy(c, r)
	})
	in, out := parsed(t, "iwarp://127.0.0.1:0=tcp://"+target), parsed(t, "tcp://127.0.0.1:0=iwarp://x:1")
	in.ProxyIn, in.ProxyOut, out.ProxyOut = true, true, true
	near, _, _ := start(t, options{drain: limit}, in)
	require.NoError(t, out.Target.UnmarshalText([]byte("iwarp://"+near.addr(0))))
	far, _, _ := start(t, options{drain: limit}, out)

	c := dial(t, far.addr(0))
	_, err := c.Write([]byte("text"))
	require.NoError(t, err)
	got := make([]byte, 4)
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, "text", string(got))
	h := <-heads
	require.NotNil(t, h)
	require.Equal(t, c.LocalAddr().String(), h.SourceAddr.String())
	require.Equal(t, c.RemoteAddr().String(), h.DestinationAddr.String())
}

func TestBadProxyHeader(t *testing.T) {
	m := parsed(t, "tcp://127.0.0.1:0=tcp://"+server(t, echo))
	m.ProxyIn = true
	g, log, _ := start(t, options{}, m)
	c := dial(t, g.addr(0))
	_, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.NoError(t, err)
	_, err = io.ReadAll(c)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "client: proxyproto") }, limit, time.Millisecond, "%s", log)
}

// certificate writes one for name, with its key, to files.
func certificate(t *testing.T, name string) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return cert, key
}

// TestTLS has both gateways show certificates to each other, and carry plain text at either end.
func TestTLS(t *testing.T) {
	serverCert, serverKey := certificate(t, "server.test")
	clientCert, clientKey := certificate(t, "client.test")
	in := parsed(t, "iwarp://127.0.0.1:0=tcp://"+server(t, echo))
	in.TLSIn = &tlsOptions{Cert: serverCert, Key: serverKey, CA: clientCert}
	in.ProxyIn = true
	near, nearLog, _ := start(t, options{drain: limit}, in)
	out := func(o tlsOptions) string {
		m := parsed(t, "tcp://127.0.0.1:0=iwarp://"+near.addr(0))
		m.TLSOut, m.ProxyOut = &o, true
		g, _, _ := start(t, options{drain: limit}, m)
		return g.addr(0)
	}
	c := dial(t, out(tlsOptions{Cert: clientCert, Key: clientKey, CA: serverCert, Name: "server.test"}))
	_, err := c.Write([]byte("text"))
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "text", string(got))

	for name, o := range map[string]tlsOptions{
		"no certificate": {CA: serverCert, Name: "server.test"},
		"another name":   {Cert: clientCert, Key: clientKey, CA: serverCert, Name: "other.test"},
		"another root":   {Cert: clientCert, Key: clientKey, CA: clientCert, Name: "server.test"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, request(out(o)), syscall.ECONNRESET)
		})
	}
	require.Eventually(t, func() bool { return strings.Contains(nearLog.String(), "certificate") }, limit, time.Millisecond)
}

// TestTLSClient serves TLS clients for a server that knows none.
func TestTLSClient(t *testing.T) {
	cert, key := certificate(t, "server.test")
	m := parsed(t, "127.0.0.1:0=tcp://"+server(t, echo))
	m.TLSIn = &tlsOptions{Cert: cert, Key: key}
	g, _, _ := start(t, options{drain: limit}, m)
	c := tls.Client(dial(t, g.addr(0)), &tls.Config{InsecureSkipVerify: true})
	_, err := c.Write([]byte("text"))
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "text", string(got))
}

// TestMax leaves clients beyond the limit in the kernel's queue until others have gone.
func TestMax(t *testing.T) {
	m := parsed(t, "tcp://127.0.0.1:0=tcp://"+server(t, echo))
	m.Max = 1
	g, _, _ := start(t, options{drain: limit}, m)
	first, second := dial(t, g.addr(0)), dial(t, g.addr(0))
	for _, c := range []*net.TCPConn{first, second} {
		_, err := c.Write([]byte("text"))
		require.NoError(t, err)
	}
	got := make([]byte, 4)
	_, err := io.ReadFull(first, got)
	require.NoError(t, err)
	require.NoError(t, second.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = second.Read(got)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, first.Close())
	require.NoError(t, second.SetReadDeadline(time.Now().Add(limit)))
	_, err = io.ReadFull(second, got)
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

// TestDrain lets what is carried end, and resets it once the time is over.
func TestDrain(t *testing.T) {
	for name, patient := range map[string]bool{"ends": true, "is cut": false} {
		t.Run(name, func(t *testing.T) {
			drain := limit
			if !patient {
				drain = 100 * time.Millisecond
			}
			g, log, stop := start(t, options{drain: drain}, parsed(t, "tcp://127.0.0.1:0=tcp://"+server(t, echo)))
			c := dial(t, g.addr(0))
			exchange := func() error {
				if _, err := c.Write([]byte("text")); err != nil {
					return err
				}
				_, err := io.ReadFull(c, make([]byte, 4))
				return err
			}
			require.NoError(t, exchange())
			if !patient {
				stop()
				require.Error(t, exchange())
				require.Contains(t, log.String(), "reset what was not done in time")
				return
			}
			stopped := make(chan struct{})
			go func() { stop(); close(stopped) }()
			require.Eventually(t, func() bool {
				late, err := net.Dial("tcp", g.addr(0))
				if err == nil {
					late.Close()
				}
				return err != nil
			}, limit, time.Millisecond, "it takes no more clients")
			require.NoError(t, exchange())
			require.NoError(t, c.Close())
			<-stopped
		})
	}
}

func TestAdmin(t *testing.T) {
	g, log, _ := start(t, options{drain: limit, admin: "127.0.0.1:0"}, parsed(t, "tcp://127.0.0.1:0=tcp://"+server(t, echo)))
	c := dial(t, g.addr(0))
	_, err := c.Write([]byte("text"))
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	_, err = io.ReadAll(c)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "msg=carried") }, limit, time.Millisecond)
	_, rest, _ := strings.Cut(log.String(), `debug page" address=`)
	admin, _, _ := strings.Cut(rest, "\n")
	get := func(path string) (int, string) {
		r, err := http.Get("http://" + admin + path)
		require.NoError(t, err)
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return r.StatusCode, string(b)
	}
	code, body := get("/healthz")
	require.Equal(t, http.StatusOK, code, body)
	_, body = get("/metrics")
	require.Contains(t, body, `iwarp_gateway_connections_total{client_path="tcp",mapping="127.0.0.1:0",result="ok",target_path="tcp"} 1`)
	require.Contains(t, body, `iwarp_gateway_carried_bytes_total{mapping="127.0.0.1:0",to="client"} 4`)
	require.Contains(t, body, `iwarp_gateway_connections{mapping="127.0.0.1:0"} 0`)
	code, body = get("/debug/iwarp")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "<table")
	g.mu.Lock()
	g.draining = true
	g.mu.Unlock()
	code, _ = get("/healthz")
	require.Equal(t, http.StatusServiceUnavailable, code)
}

func TestMappings(t *testing.T) {
	file := func(text string) []string {
		name := filepath.Join(t.TempDir(), "gateway.toml")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		return []string{"--check", "--config", name}
	}
	for _, c := range []struct {
		name string
		args []string
		want string // part of the error
	}{
		{"good", []string{"--check", "tcp://127.0.0.1:1=iwarp://host:2", "[::1]:1=prefer://[::1]:2"}, ""},
		{"good file", file("[[mapping]]\nlisten = \"iwarp://:1\"\ntarget = \"tcp://127.0.0.1:2\"\nmax = 5\ntimeout = \"3s\"\nproxy-in = true\n"), ""},
		{"none", nil, "no mapping; give one as LISTEN=TARGET"},
		{"no target", []string{"127.0.0.1:1"}, "is not LISTEN=TARGET"},
		{"scheme", []string{"udp://:1=:2"}, `"udp://:1" has none of the schemes`},
		{"port", []string{":1=tcp://host"}, "missing port in address"},
		{"empty port", []string{":1=tcp://host:"}, "has no port"},
		{"twice", []string{":1=:2", "tcp://:1=:3"}, `two mappings listen on ":1"`},
		{"max", []string{"--max", "-1", ":1=:2"}, "max is below 0"},
		{"timeout", []string{"--timeout", "0s", ":1=:2"}, "is not above 0"},
		{"log", []string{"--log", "xml", ":0=:2"}, `log format "xml"`},
		{"no file", []string{"--config", "/does/not/exist"}, "no such file"},
		{"unknown", file("[[mapping]]\nlisten = \":1\"\ntarget = \":2\"\nmaximum = 5\n"), "settings that do not exist"},
		{"not toml", file("listen: 5"), "gateway.toml"},
		{"no listen", file("[[mapping]]\ntarget = \":2\"\n"), "has no listen"},
		{"tls", file("[[mapping]]\nlisten = \":1\"\ntarget = \":2\"\n[mapping.tls-in]\ncert = \"x\"\n"), "tls-in needs cert and key"},
		{"tls file", file("[[mapping]]\nlisten = \":1\"\ntarget = \":2\"\n[mapping.tls-out]\nca = \"/does/not/exist\"\n"), "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := command(io.Discard)
			cmd.SetArgs(append([]string{}, c.args...))
			err := cmd.ExecuteContext(t.Context())
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestManual(t *testing.T) {
	dir := t.TempDir()
	cmd := command(io.Discard)
	cmd.SetArgs([]string{"man", dir})
	require.NoError(t, cmd.Execute())
	page, err := os.ReadFile(filepath.Join(dir, "iwarp-gateway.8"))
	require.NoError(t, err)
	require.Contains(t, string(page), "LISTEN=TARGET")
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cmd := command(io.Discard)
	cmd.SetArgs([]string{fmt.Sprintf("tcp://%s=:2", l.Addr())})
	require.ErrorIs(t, cmd.Execute(), syscall.EADDRINUSE)
}
