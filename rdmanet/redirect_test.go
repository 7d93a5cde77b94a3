package rdmanet_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// TestRedirect refuses clients that can be redirected, and serves the others.
func TestRedirect(t *testing.T) {
	for _, c := range []struct {
		name   string
		client rdmanet.Config
		port   uint16
		asked  bool // whether the server is asked for a port
		sent   bool
	}{
		{name: "redirectable", client: rdmanet.Config{Redirectable: true}, port: 7174, asked: true, sent: true},
		{name: "highest port", client: rdmanet.Config{Redirectable: true}, port: 65535, asked: true, sent: true},
		{name: "no port", client: rdmanet.Config{Redirectable: true}, asked: true},
		{name: "only asks", client: rdmanet.Config{Redirectable: true, OnlyAsks: true}, port: 7174, asked: true, sent: true},
		{name: "only asks, no port", client: rdmanet.Config{Redirectable: true, OnlyAsks: true}, asked: true, sent: true},
		{name: "not redirectable", port: 7174},
		{name: "rsocket", client: rdmanet.Config{Redirectable: true, Plain: true}, port: 7174},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := prepare(t, setting{}, nil)
			ctx := testContext(t)
			done := make(chan error, 1)
			go func() {
				a, err := rdmanet.Client(ctx, n.k, &c.client)
				if err == nil {
					a.Close()
				}
				done <- err
			}()
			r, err := n.accept()
			require.NoError(t, err)
			asked := false
			sent, err := rdmanet.Redirect(r, 80, func() uint16 { asked = true; return c.port })
			require.NoError(t, err)
			require.Equal(t, c.asked, asked)
			require.Equal(t, c.sent, sent)
			if !sent {
				b, err := rdmanet.Server(ctx, r, nil)
				require.NoError(t, err)
				require.NoError(t, <-done)
				b.Close()
				return
			}
			err = <-done
			var redirect *rdmanet.RedirectError
			if c.port == 0 {
				var refused *transport.RejectedError
				require.ErrorAs(t, err, &refused)
				require.NotEmpty(t, refused.PrivateData, "a refusal without a word looks like a peer that does not speak iWARP")
				require.False(t, errors.As(err, &redirect))
				return
			}
			require.ErrorAs(t, err, &redirect)
			require.Equal(t, &rdmanet.RedirectError{Port: c.port, Service: 80}, redirect)
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
		})
	}
}

// TestRefusalIsNoRedirect keeps the refusals of other servers, and those that were not asked for,
// as they are.
func TestRefusalIsNoRedirect(t *testing.T) {
	for _, c := range []struct {
		name, data string
		client     rdmanet.Config
	}{
		{name: "nothing", client: rdmanet.Config{Redirectable: true}},
		{name: "zeros", data: string(make([]byte, 148)), client: rdmanet.Config{Redirectable: true}},
		{name: "of another version", data: "iWAR\x02\x00\x02\x02\x1f\x90", client: rdmanet.Config{Redirectable: true}},
		{name: "port 0", data: "iWAR\x01\x00\x02\x02\x00\x00", client: rdmanet.Config{Redirectable: true}},
		{name: "cut short", data: "iWAR\x01\x00\x02\x02\x1f", client: rdmanet.Config{Redirectable: true}},
		{name: "not asked for", data: "iWAR\x01\x00\x02\x02\x1f\x90"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := prepare(t, setting{}, nil)
			ctx := testContext(t)
			done := make(chan error, 1)
			go func() {
				_, err := rdmanet.Client(ctx, n.k, &c.client)
				done <- err
			}()
			r, err := n.accept()
			require.NoError(t, err)
			require.NoError(t, r.Reject([]byte(c.data)))
			err = <-done
			var redirect *rdmanet.RedirectError
			require.False(t, errors.As(err, &redirect), "%v", err)
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
		_, err := rdmanet.Client(ctx, n.k, &rdmanet.Config{Redirectable: true})
		done <- err
	}()
	r, err := n.accept()
	require.NoError(t, err)
	require.NoError(t, r.Reject(append([]byte("iWAR\x01\x00\x02\x02\x1f\x90"), make([]byte, 139)...)))
	var redirect *rdmanet.RedirectError
	require.ErrorAs(t, <-done, &redirect)
	require.Equal(t, &rdmanet.RedirectError{Port: 8080}, redirect)
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
				a, err := rdmanet.Client(ctx, n.k, &rdmanet.Config{Service: c.client})
				if err == nil {
					a.Close()
				}
				done <- err
			}()
			r, err := n.accept()
			require.NoError(t, err)
			b, err := rdmanet.Server(ctx, r, &rdmanet.Config{Service: c.server})
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
