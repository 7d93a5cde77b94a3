package iwarp_test

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestDialErrors holds the errors of every policy against those of package net.
func TestDialErrors(t *testing.T) {
	listener := listen(t, iwarp.ListenConfig{})
	open, closed := listener.Addr().String(), closedPort(t)
	noDNS := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errTest }}
	past, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()

	for _, tt := range []struct {
		name, network, address string
		ctx                    context.Context
		d                      net.Dialer
		is                     error
	}{
		{name: "refused", network: "tcp", address: closed, is: syscall.ECONNREFUSED},
		{name: "refused tcp4", network: "tcp4", address: closed, is: syscall.ECONNREFUSED},
		{name: "unknown network", network: "tpc", address: open},
		{name: "empty network", network: "", address: open},
		{name: "empty address", network: "tcp", address: ""},
		{name: "no port", network: "tcp", address: "127.0.0.1"},
		{name: "unknown port", network: "tcp", address: "127.0.0.1:no-such-service"},
		{name: "port out of range", network: "tcp", address: "127.0.0.1:65536"},
		{name: "too many colons", network: "tcp", address: "::1:80"},
		{name: "v6 over tcp4", network: "tcp4", address: "[::1]:80"},
		{name: "v4 over tcp6", network: "tcp6", address: "127.0.0.1:80"},
		{name: "no such host", network: "tcp", address: "host.invalid:80", d: net.Dialer{Resolver: noDNS}},
		{name: "bad udp address", network: "udp", address: "127.0.0.1"},
		{name: "unix", network: "unix", address: "/no/such/socket", is: syscall.ENOENT},
		{name: "local address of another kind", network: "tcp", address: open, d: net.Dialer{LocalAddr: &net.UDPAddr{}}},
		{name: "local address of another family", network: "tcp", address: open, d: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv6loopback}}},
		{name: "foreign local address", network: "tcp", address: open, d: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IP{192, 0, 2, 1}}}, is: syscall.EADDRNOTAVAIL},
		{name: "canceled", network: "tcp", address: open, ctx: canceled(), is: context.Canceled},
		{name: "deadline of the context", network: "tcp", address: open, ctx: past, is: context.DeadlineExceeded},
		{name: "deadline", network: "tcp", address: open, d: net.Dialer{Deadline: time.Unix(1, 0)}, is: context.DeadlineExceeded},
		{name: "negative timeout", network: "tcp", address: open, d: net.Dialer{Timeout: -1}, is: context.DeadlineExceeded},
		{name: "control", network: "tcp", address: open, is: errTest, d: net.Dialer{
			Control: func(string, string, syscall.RawConn) error { return errTest },
		}},
		{name: "control with context", network: "tcp", address: open, is: errTest, d: net.Dialer{
			Control:        func(string, string, syscall.RawConn) error { panic("ControlContext goes first") },
			ControlContext: func(context.Context, string, string, syscall.RawConn) error { return errTest },
		}},
	} {
		ctx := tt.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		_, want := tt.d.DialContext(ctx, tt.network, tt.address)
		require.Error(t, want, tt.name)
		for _, policy := range policies {
			t.Run(tt.name+"/"+policy.String(), func(t *testing.T) {
				d := iwarp.Dialer{
					Offload: policy, Deadline: tt.d.Deadline, Timeout: tt.d.Timeout, LocalAddr: tt.d.LocalAddr,
					Resolver: tt.d.Resolver, Control: tt.d.Control, ControlContext: tt.d.ControlContext,
				}
				c, err := d.DialContext(ctx, tt.network, tt.address)
				require.Nil(t, c)
				requireSameError(t, want, err)
				if tt.is != nil {
					require.ErrorIs(t, want, tt.is, "package net")
					require.ErrorIs(t, err, tt.is)
				}
			})
		}
	}
}

// TestDialNumeric dials numeric addresses without a context, for which package net has nothing to
// resolve.
func TestDialNumeric(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	_, open, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	_, shut, err := net.SplitHostPort(closedPort(t))
	require.NoError(t, err)

	for _, host := range []string{
		"127.0.0.1", "127.0.0.01", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "", "[::1%lo]", "[127.0.0.1]",
		"[fe80::1%no-such-link]", "255.255.255.255",
	} {
		for _, port := range []string{open, shut, "0", "00" + open, "+" + open, "", "65536"} {
			for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadNever} {
				address := host + ":" + port
				plain, want := net.Dial("tcp", address)
				d := iwarp.Dialer{Offload: policy}
				c, got := d.Dial("tcp", address)
				if want != nil {
					require.Nil(t, c, address)
					requireSameError(t, want, got)
					continue
				}
				require.NoError(t, got, address)
				require.IsType(t, plain, c, address)
				require.Equal(t, plain.RemoteAddr(), c.RemoteAddr(), address)
				require.NoError(t, plain.Close())
				require.NoError(t, c.Close())
			}
		}
	}
}

func TestDialNilContextPanics(t *testing.T) {
	var none context.Context
	for _, policy := range policies {
		require.PanicsWithValue(t, "nil context", func() {
			_, _ = (&iwarp.Dialer{Offload: policy}).DialContext(none, "tcp", "127.0.0.1:1")
		})
	}
}

// silentServer accepts TCP connections and says nothing, so that an MPA request stays unanswered.
func silentServer(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestDialInterrupted ends dials that wait for the reply to the MPA request.
func TestDialInterrupted(t *testing.T) {
	for _, tt := range []struct {
		name    string
		cause   error
		text    string
		timeout bool
		dial    func(d *iwarp.Dialer, address string, waits <-chan struct{}) error
	}{
		{name: "context canceled", cause: context.Canceled, text: "operation was canceled", dial: func(d *iwarp.Dialer, address string, waits <-chan struct{}) error {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go func() { <-waits; cancel() }()
			_, err := d.DialContext(ctx, "tcp", address)
			return err
		}},
		{name: "cancel channel", cause: context.Canceled, text: "operation was canceled", dial: func(d *iwarp.Dialer, address string, waits <-chan struct{}) error {
			d.Cancel = waits
			_, err := d.Dial("tcp", address)
			return err
		}},
		{name: "context deadline", cause: context.DeadlineExceeded, text: "i/o timeout", timeout: true, dial: func(d *iwarp.Dialer, address string, _ <-chan struct{}) error {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_, err := d.DialContext(ctx, "tcp", address)
			return err
		}},
		{name: "timeout", cause: os.ErrDeadlineExceeded, text: "i/o timeout", timeout: true, dial: func(d *iwarp.Dialer, address string, _ <-chan struct{}) error {
			d.Timeout = 100 * time.Millisecond
			_, err := d.Dial("tcp", address)
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := silentServer(t)
			waits := make(chan struct{})
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				if _, err := c.Read(make([]byte, 1)); err != nil { // the MPA request is there
					return
				}
				close(waits)
				_, _ = c.Read(make([]byte, 1024))
				_, _ = c.Read(make([]byte, 1)) // until the client has given up
			}()
			d := &iwarp.Dialer{Offload: iwarp.OffloadRequire, HandshakeTimeout: time.Hour}
			op := opError(t, tt.dial(d, l.Addr().String(), waits))
			require.Equal(t, "dial", op.Op)
			require.Equal(t, "tcp", op.Net)
			require.Nil(t, op.Source)
			require.Equal(t, l.Addr().String(), op.Addr.String())
			require.ErrorIs(t, op, tt.cause)
			require.Equal(t, tt.text, op.Err.Error())
			require.Equal(t, tt.timeout, op.Timeout())
			var policy *iwarp.OffloadError
			require.False(t, errors.As(op, &policy), "the dial was ended from outside, not by the policy")
		})
	}
}

// TestDialReachesNet shows that the kernel's connections are those of a net.Dialer.
func TestDialReachesNet(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	go echo(l)
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			var started, controlled []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				ConnectStart: func(network, addr string) { started = append(started, network+" "+addr) },
			})
			d := iwarp.Dialer{
				Offload: policy, Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IP{127, 0, 0, 2}},
				Control: func(network, addr string, _ syscall.RawConn) error {
					controlled = append(controlled, network+" "+addr)
					return nil
				},
			}
			c, err := d.DialContext(ctx, "tcp", l.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			require.Equal(t, []string{"tcp " + l.Addr().String()}, started)
			require.Equal(t, []string{"tcp4 " + l.Addr().String()}, controlled)
			require.Equal(t, "127.0.0.2", c.LocalAddr().(*net.TCPAddr).IP.String())
			require.Equal(t, l.Addr().String(), c.RemoteAddr().(*net.TCPAddr).String())
			exchangeWithEcho(t, c, "hello")
		})
	}
}
