package rdmanet_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// TestRedirect refuses clients that can be redirected, and serves the others.
func TestRedirect(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes redirect.Answers
		plain bool
		port  uint16
		other error // why the server has no stream for others
		asked bool  // whether the server is asked for a port
		sent  bool
	}{
		{name: "redirectable", takes: redirect.StreamOrTo, port: 7174, asked: true, sent: true},
		{name: "highest port", takes: redirect.StreamOrTo, port: 65535, asked: true, sent: true},
		{name: "no port", takes: redirect.StreamOrTo, asked: true},
		{name: "only asks", takes: redirect.OnlyTo, port: 7174, asked: true, sent: true},
		{name: "only asks, no port", takes: redirect.OnlyTo, asked: true, sent: true},
		{name: "not redirectable", port: 7174},
		{name: "no port, no stream", takes: redirect.StreamOrTo, other: syscall.ENODEV, asked: true},
		{name: "not redirectable, no stream", port: 7174, other: syscall.ENODEV},
		{name: "rsocket, no stream", plain: true, port: 7174, other: syscall.ENODEV},
		{name: "rsocket", takes: redirect.StreamOrTo, plain: true, port: 7174},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := prepare(t, setting{}, nil)
			ctx := testContext(t)
			done := make(chan error, 1)
			go func() {
				a, err := rdmanet.Client(ctx, &redirect.Connector{Connector: n.k, Takes: c.takes}, &rdmanet.Config{Plain: c.plain})
				if err == nil {
					a.Close()
				}
				done <- err
			}()
			r, err := n.accept()
			require.NoError(t, err)
			h := &host{port: c.port}
			b, err := rdmanet.Server(ctx, &redirect.Request{Request: r, Service: 80, Else: c.other, Redirects: true, Host: h}, nil)
			require.Equal(t, c.asked, h.asked)
			if c.other != nil {
				require.Equal(t, c.other, err)
				require.Error(t, <-done)
				return
			}
			if !c.sent {
				require.NoError(t, err)
				require.NoError(t, <-done)
				b.Close()
				return
			}
			require.Equal(t, redirect.ErrSent, err)
			err = <-done
			var to *redirect.To
			if c.port == 0 {
				var refused *transport.RejectedError
				require.ErrorAs(t, err, &refused)
				require.NotEmpty(t, refused.PrivateData, "a refusal without a word looks like a peer that does not speak iWARP")
				require.False(t, errors.As(err, &to))
				return
			}
			require.ErrorAs(t, err, &to)
			require.Equal(t, &redirect.To{Port: c.port, Service: 80}, to)
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
		})
	}
}

// TestRefusalIsNoRedirect keeps the refusals of other servers, and those that were not asked for,
// as they are.
func TestRefusalIsNoRedirect(t *testing.T) {
	for _, c := range []struct {
		name, data string
		takes      redirect.Answers
	}{
		{name: "nothing", takes: redirect.StreamOrTo},
		{name: "zeros", data: string(make([]byte, 148)), takes: redirect.StreamOrTo},
		{name: "of another version", data: "iWAR\x02\x00\x02\x02\x1f\x90", takes: redirect.StreamOrTo},
		{name: "port 0", data: "iWAR\x01\x00\x02\x02\x00\x00", takes: redirect.StreamOrTo},
		{name: "cut short", data: "iWAR\x01\x00\x02\x02\x1f", takes: redirect.StreamOrTo},
		{name: "not asked for", data: "iWAR\x01\x00\x02\x02\x1f\x90"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := prepare(t, setting{}, nil)
			ctx := testContext(t)
			done := make(chan error, 1)
			go func() {
				_, err := rdmanet.Client(ctx, &redirect.Connector{Connector: n.k, Takes: c.takes}, nil)
				done <- err
			}()
			r, err := n.accept()
			require.NoError(t, err)
			require.NoError(t, r.Reject([]byte(c.data)))
			err = <-done
			var to *redirect.To
			require.False(t, errors.As(err, &to), "%v", err)
			var rejected *transport.RejectedError
			require.ErrorAs(t, err, &rejected)
			require.Equal(t, c.data, string(rejected.PrivateData))
		})
	}
}

// TestRedirectPadded reads a refusal that was filled with zeros, as InfiniBand and RoCE do.
func TestRedirectPadded(t *testing.T) {
	n := prepare(t, setting{}, nil)
	ctx := testContext(t)
	done := make(chan error, 1)
	go func() {
		_, err := rdmanet.Client(ctx, &redirect.Connector{Connector: n.k, Takes: redirect.StreamOrTo}, nil)
		done <- err
	}()
	r, err := n.accept()
	require.NoError(t, err)
	require.NoError(t, r.Reject(append([]byte("iWAR\x01\x00\x02\x02\x1f\x90"), make([]byte, 139)...)))
	var to *redirect.To
	require.ErrorAs(t, <-done, &to)
	require.Equal(t, &redirect.To{Port: 8080}, to)
}

// TestService refuses a client that wants another service than the one it has reached.
func TestService(t *testing.T) {
	for _, c := range []struct {
		name           string
		client, server uint16
		refused        bool
	}{
		{name: "same", client: 80, server: 80},
		{name: "another", client: 80, server: 81, refused: true},
		{name: "client says nothing", server: 80},
		{name: "server does not mind", client: 80},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := prepare(t, setting{}, nil)
			ctx := testContext(t)
			done := make(chan error, 1)
			go func() {
				a, err := rdmanet.Client(ctx, &redirect.Connector{Connector: n.k, Service: c.client}, nil)
				if err == nil {
					a.Close()
				}
				done <- err
			}()
			r, err := n.accept()
			require.NoError(t, err)
			b, err := rdmanet.Server(ctx, &redirect.Request{Request: r, Service: c.server}, nil)
			if !c.refused {
				require.NoError(t, err)
				require.NoError(t, <-done)
				b.Close()
				return
			}
			require.ErrorContains(t, err, "port 80")
			var rejected *transport.RejectedError
			require.ErrorAs(t, <-done, &rejected)
			require.Equal(t, "iWAR\x01\x00", string(rejected.PrivateData))
		})
	}
}

// host is a redirect.Host that notes whether it was asked for its port.
type host struct {
	port  uint16
	asked bool
}

func (h *host) Port() uint16 {
	h.asked = true
	return h.port
}

func (h *host) Why(error) redirect.Why { return redirect.WhyUnsaid }
