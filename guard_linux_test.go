package iwarp_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

// acceptSilent returns both ends of a connection that was handed out before the client had spoken.
func acceptSilent(t *testing.T, address, host string) (client, server net.Conn) {
	t.Helper()
	l, err := (&iwarp.ListenConfig{FirstByteTimeout: time.Millisecond}).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	client, err = net.Dial("tcp", net.JoinHostPort(host, port))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	require.Equal(t, iwarp.ReasonSilent, describe(t, server).Reason)
	return client, server
}

// TestLateRequest keeps an MPA request from an application that has got the client as plain TCP:
// it reads the end of the connection, whatever the client does then, and can still write.
func TestLateRequest(t *testing.T) {
	request := mpaKey + "\x40\x01\x00\x04abcd"
	send := func(parts ...string) func(*net.TCPConn) error {
		return func(c *net.TCPConn) (err error) {
			for _, part := range parts {
				_, partErr := io.WriteString(c, part)
				err = errors.Join(err, partErr)
			}
			return err
		}
	}
	then := func(first, second func(*net.TCPConn) error) func(*net.TCPConn) error {
		return func(c *net.TCPConn) error { return errors.Join(first(c), second(c)) }
	}
	cork := func(on int) func(*net.TCPConn) error {
		return func(c *net.TCPConn) error {
			rc, err := c.SyscallConn()
			if err != nil {
				return err
			}
			optErr := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, on) })
			return errors.Join(optErr, err)
		}
	}
	for _, at := range []struct{ address, host string }{{"127.0.0.1:0", "127.0.0.1"}, {"[::1]:0", "::1"}, {":0", "127.0.0.1"}, {":0", "::1"}} {
		for name, act := range map[string]func(*net.TCPConn) error{
			"waits":               send(request),
			"waits, two segments": send(request[:len(mpaKey)+4], request[len(mpaKey)+4:]),
			"waits, split key":    send(request[:4], request[4:]),
			"hangs":               send(request[:len(mpaKey)-1]),
			"closes":              then(send(request), (*net.TCPConn).Close),
			"closes, split key":   then(send(request[:10], request[10:]), (*net.TCPConn).Close),
			"closes at once":      then(then(cork(1), send(request)), (*net.TCPConn).Close),
			"half-closes":         then(send(request), (*net.TCPConn).CloseWrite),
			"half-closes at once": then(then(cork(1), send(request)), (*net.TCPConn).CloseWrite),
			"resets":              then(send(request), func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }),
		} {
			t.Run(at.address+" "+at.host+" "+name, func(t *testing.T) {
				t.Parallel()
				client, server := acceptSilent(t, at.address, at.host)
				require.NoError(t, act(client.(*net.TCPConn)))
				require.NoError(t, server.SetDeadline(time.Now().Add(patience)))
				got := make([]byte, 64)
				n, err := server.Read(got)
				require.Zero(t, n, "%q", got[:n])
				if name == "resets" {
					require.True(t, errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), "%v", err)
					return
				}
				require.Equal(t, io.EOF, err)
				if strings.HasPrefix(name, "closes") {
					return
				}
				exchangeOneWay(t, server, client, "220 hello")
				require.NoError(t, server.Close())
				_, err = client.Read(got)
				require.Error(t, err)
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			})
		}
	}
}

// TestLateDial has a dial whose request comes late told by the server's end: with OffloadPrefer it
// falls back long before its own time is up.
func TestLateDial(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadPrefer, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Millisecond})
			path, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer path.Close()
			read := make(chan error, 1)
			go func() {
				late, server := heldBack(path, l)
				if server == nil {
					read <- errors.New("not accepted")
					return
				}
				defer late.Close()
				_, err := server.Read(make([]byte, 64))
				read <- err
				_ = server.Close()
			}()
			began := time.Now()
			d := iwarp.Dialer{Offload: policy, HandshakeTimeout: 2 * patience}
			c, err := d.Dial("tcp", path.Addr().String())
			require.Less(t, time.Since(began), patience)
			if policy == iwarp.OffloadPrefer {
				require.NoError(t, err)
				defer c.Close()
				require.Equal(t, iwarp.ReasonNotIWARP, describe(t, c).Reason)
			} else {
				var why *iwarp.OffloadError
				require.ErrorAs(t, err, &why)
				require.Equal(t, iwarp.ReasonNotIWARP, why.Reason)
			}
			require.Equal(t, io.EOF, <-read)
		})
	}
}

// heldBack carries the next connection of path to l, but nothing of it before l has handed it out.
func heldBack(path, l net.Listener) (client, server net.Conn) {
	client, err := path.Accept()
	if err != nil {
		return nil, nil
	}
	onward, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil
	}
	server, err = l.Accept()
	if err != nil {
		return nil, nil
	}
	go func() { _, _ = io.Copy(client, onward); _ = client.(*net.TCPConn).CloseWrite() }()
	go func() { _, _ = io.Copy(onward, client); _ = onward.Close() }()
	return client, server
}

// TestLateClients has everything else reach the application, whatever it begins with.
func TestLateClients(t *testing.T) {
	long := bytes.Repeat([]byte("MPA ID Req Fram "), 1<<16)
	for _, text := range []string{"hello", "M", "MPA", "MPA ID Req Fram!", "MPA ID Rep Frame", string(long)} {
		client, server := acceptSilent(t, "127.0.0.1:0", "127.0.0.1")
		exchangeOneWay(t, server, client, "220 hello")
		go func() { _, _ = io.WriteString(client, text); _ = client.(*net.TCPConn).CloseWrite() }()
		require.NoError(t, server.SetDeadline(time.Now().Add(patience)))
		got, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, len(text), len(got))
		require.True(t, text == string(got))
	}
}

func exchangeOneWay(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	require.NoError(t, from.SetDeadline(time.Now().Add(patience)))
	require.NoError(t, to.SetDeadline(time.Now().Add(patience)))
	_, err := io.WriteString(from, text)
	require.NoError(t, err)
	got := make([]byte, len(text))
	_, err = io.ReadFull(to, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}
