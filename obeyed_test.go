package iwarp_test

import (
	"context"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/rdmanet"
)

// ways are the paths that a connection can take, by the policy that takes it.
var ways = map[string]iwarp.Offload{"plain": iwarp.OffloadNever, "soft": iwarp.OffloadRequire, "device": iwarp.OffloadRequire}

// transportOf returns the transport that Describe has for a path.
func transportOf(path string) string {
	return map[string]string{"plain": "tcp", "soft": "soft", "device": "nic"}[path]
}

// effects are what functions of a test note.
type effects struct {
	calls  int
	cancel chan struct{} // closed when the dial is over, as package net waits for it in a goroutine
}

// optionCase says what should become of a field.
type optionCase[T any] struct {
	set     func(config *T, e *effects) // to a value that can be told from the zero one
	ignored []string                    // what Info says of a connection through a device
	calls   bool                        // the function is called, unless it is ignored
	fails   error                       // the value makes any dial fail
	address string                      // to dial in place of 127.0.0.1, if the value makes that possible
}

// dialerOptions has each field of a Dialer.
var dialerOptions = map[string]optionCase[iwarp.Dialer]{
	"Timeout":   {set: func(d *iwarp.Dialer, _ *effects) { d.Timeout = -1 }, fails: context.DeadlineExceeded},
	"Deadline":  {set: func(d *iwarp.Dialer, _ *effects) { d.Deadline = time.Unix(1, 0) }, fails: context.DeadlineExceeded},
	"LocalAddr": {set: func(d *iwarp.Dialer, _ *effects) { d.LocalAddr = &net.UDPAddr{} }, fails: errOfNet},
	"DualStack": {set: func(d *iwarp.Dialer, _ *effects) {
		reflect.ValueOf(d).Elem().FieldByName("DualStack").SetBool(true)
	}},
	"FallbackDelay": {set: func(d *iwarp.Dialer, _ *effects) { d.FallbackDelay = time.Second }},
	"KeepAlive":     {set: func(d *iwarp.Dialer, _ *effects) { d.KeepAlive = time.Minute }},
	"KeepAliveConfig": {
		set: func(d *iwarp.Dialer, _ *effects) {
			d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Second, Count: 3}
		},
		ignored: []string{"KeepAliveConfig.Interval", "KeepAliveConfig.Count"},
	},
	"Resolver": {
		set:     func(d *iwarp.Dialer, _ *effects) { d.Resolver = nameServer([4]byte{127, 0, 0, 1}) },
		address: "server.test",
	},
	"Cancel": {set: func(d *iwarp.Dialer, e *effects) {
		reflect.ValueOf(d).Elem().FieldByName("Cancel").Set(reflect.ValueOf(e.cancel))
	}},
	"Control": {
		set: func(d *iwarp.Dialer, e *effects) {
			d.Control = func(string, string, syscall.RawConn) error { e.calls++; return nil }
		},
		ignored: []string{"Control"}, calls: true,
	},
	"ControlContext": {
		set: func(d *iwarp.Dialer, e *effects) {
			d.Control = func(string, string, syscall.RawConn) error { panic("ControlContext goes first") }
			d.ControlContext = func(context.Context, string, string, syscall.RawConn) error { e.calls++; return nil }
		},
		ignored: []string{"ControlContext"}, calls: true,
	},
	"Offload": {}, // what makes the path
	"Policy": {set: func(d *iwarp.Dialer, e *effects) {
		policy := d.Offload
		d.Offload, d.Policy = 77, func(string) iwarp.Offload { e.calls++; return policy }
	}, calls: true},
	"Transports":       {}, // the same
	"PortSpace":        {set: func(d *iwarp.Dialer, _ *effects) { d.PortSpace = &iwarp.PortSpace{} }},
	"HandshakeTimeout": {set: func(d *iwarp.Dialer, _ *effects) { d.HandshakeTimeout = patience }},
	"ReadBuffer":       {set: func(d *iwarp.Dialer, _ *effects) { d.ReadBuffer = 1 << 16 }},
	"ReadBudget":       {set: func(d *iwarp.Dialer, _ *effects) { d.ReadBudget = rdmanet.NewBudget(1 << 30) }, ignored: []string{"ReadBudget"}},
	"Logger": {
		set: func(d *iwarp.Dialer, e *effects) {
			d.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) { e.calls++; return len(p), nil }),
				&slog.HandlerOptions{Level: slog.LevelDebug}))
		},
		calls: true,
	},
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// listenOptions has each field of a ListenConfig.
var listenOptions = map[string]optionCase[iwarp.ListenConfig]{
	"Control": {
		set: func(lc *iwarp.ListenConfig, e *effects) {
			lc.Control = func(string, string, syscall.RawConn) error { e.calls++; return nil }
		},
		ignored: []string{"Control"},
	},
	"KeepAlive": {set: func(lc *iwarp.ListenConfig, _ *effects) { lc.KeepAlive = time.Minute }},
	"KeepAliveConfig": {
		set: func(lc *iwarp.ListenConfig, _ *effects) {
			lc.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Second, Count: 3}
		},
		ignored: []string{"KeepAliveConfig.Interval", "KeepAliveConfig.Count"},
	},
	"Offload":            {},
	"Transports":         {},
	"PortSpace":          {set: func(lc *iwarp.ListenConfig, _ *effects) { lc.PortSpace = &iwarp.PortSpace{} }},
	"HandshakeTimeout":   {set: func(lc *iwarp.ListenConfig, _ *effects) { lc.HandshakeTimeout = patience }},
	"FirstByteTimeout":   {set: func(lc *iwarp.ListenConfig, _ *effects) { lc.FirstByteTimeout = patience }}, // a request is the first byte of a device
	"MaxHalfOpen":        {set: func(lc *iwarp.ListenConfig, _ *effects) { lc.MaxHalfOpen = 8 }},
	"MaxConnsPerPeer":    {set: func(lc *iwarp.ListenConfig, _ *effects) { lc.MaxConnsPerPeer = 8 }}, // see TestMaxConnsPerPeerOfDevice
	"MaxConnRatePerPeer": {set: func(lc *iwarp.ListenConfig, _ *effects) { lc.MaxConnRatePerPeer = 100 }},
	"ReadBuffer":         {set: func(lc *iwarp.ListenConfig, _ *effects) { lc.ReadBuffer = 1 << 16 }},
	"ReadBudget": {
		set:     func(lc *iwarp.ListenConfig, _ *effects) { lc.ReadBudget = rdmanet.NewBudget(1 << 30) },
		ignored: []string{"ReadBudget"},
	},
	"Logger": {set: func(lc *iwarp.ListenConfig, _ *effects) { lc.Logger = slog.New(slog.DiscardHandler) }}, // see TestLogPath
}

// errOfNet stands for the error that package net has of the same dial.
var errOfNet = &net.AddrError{}

// fieldNames returns the names of what a user can set.
func fieldNames[T any]() (names []string) {
	for f := range fields(reflect.TypeFor[T]()) {
		names = append(names, f.Name)
	}
	return names
}

func keys[T any](m map[string]optionCase[T]) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	return names
}

// TestDialerNeverSilent sets each field of a Dialer for each path: it has its effect, or Info says
// that it has none.
func TestDialerNeverSilent(t *testing.T) {
	require.ElementsMatch(t, fieldNames[iwarp.Dialer](), keys(dialerOptions), "say what becomes of each field")
	n := newNIC()
	l := listen(t, iwarp.ListenConfig{Transports: n.transports()})
	go echo(l)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	for path, policy := range ways {
		for name, tt := range dialerOptions {
			if tt.set == nil {
				continue
			}
			t.Run(path+"/"+name, func(t *testing.T) {
				e, d := effects{cancel: make(chan struct{})}, iwarp.Dialer{Offload: policy, Transports: n.transports()}
				if path == "soft" {
					d.Transports = d.Transports[1:]
				}
				defer close(e.cancel)
				tt.set(&d, &e)
				host := "127.0.0.1"
				if tt.address != "" {
					host = tt.address
				}
				c, err := d.Dial("tcp", net.JoinHostPort(host, port))
				if tt.fails != nil {
					require.Equal(t, "dial", opError(t, err).Op)
					if tt.fails == errOfNet {
						require.ErrorAs(t, err, new(*net.AddrError))
					} else {
						require.ErrorIs(t, err, tt.fails)
					}
					return
				}
				require.NoError(t, err)
				defer c.Close()
				exchangeWithEcho(t, c, "hello")
				info := describe(t, c)
				require.Equal(t, transportOf(path), info.Transport)
				if path == "device" {
					require.Equal(t, tt.ignored, info.Ignored)
				} else {
					require.Empty(t, info.Ignored)
				}
				require.Equal(t, tt.calls && !slices.Contains(info.Ignored, name), e.calls > 0)
			})
		}
	}
}

// TestListenConfigNeverSilent does the same to a ListenConfig.
func TestListenConfigNeverSilent(t *testing.T) {
	require.ElementsMatch(t, fieldNames[iwarp.ListenConfig](), keys(listenOptions), "say what becomes of each field")
	for name, tt := range listenOptions {
		if tt.set == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			n := newNIC()
			e, lc := effects{}, iwarp.ListenConfig{Transports: n.transports()}
			tt.set(&lc, &e)
			l := listen(t, lc)
			require.Equal(t, name == "Control", e.calls > 0)
			for path, policy := range ways {
				d := iwarp.Dialer{Offload: policy, Transports: n.transports(), Timeout: patience}
				if path == "soft" {
					d.Transports = d.Transports[1:]
				}
				c := dialBy(t, &d, "tcp", l.Addr().String())
				_, err := c.Write([]byte("hello"))
				require.NoError(t, err)
				info := describe(t, accept(t, l))
				require.Equal(t, transportOf(path), info.Transport)
				if path == "device" {
					require.Equal(t, tt.ignored, info.Ignored)
				} else {
					require.Empty(t, info.Ignored)
				}
			}
		})
	}
}
