package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"
)

// FuzzConfig reads mappings, from a file and from an argument.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"[[mapping]]\nlisten = \"iwarp://:1\"\ntarget = \"tcp://127.0.0.1:2\"\nmax = 5\ntimeout = \"3s\"\nproxy-in = true\n",
		"[[mapping]]\nlisten = \":1\"\ntarget = \":2\"\nmaximum = 5\n", "listen: 5", "[[mapping]]\ntarget = \":2\"\n", "[mapping]\n", "mapping = [1]\n",
		"[[mapping]]\nlisten = \":1\"\ntarget = \":2\"\n[mapping.tls-in]\ncert = \"x\"\n[[mapping]]\nlisten = \":1\"\ntarget = \":3\"\n",
		"[[mapping]]\nlisten = 1\n", "[[mapping]]\ntimeout = \"-3s\"\n", "tcp://:1=prefer://[::1]:2", "=", "a=b=c", "udp://:1=:2", ":1=tcp://host:",
	} {
		f.Add(seed)
	}
	name := filepath.Join(f.TempDir(), "gateway.toml")
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		all, err := readFile(name)
		if err != nil {
			require.Empty(t, all)
			require.NotEmpty(t, err.Error())
		}
		m := new(mapping)
		if m.parse(text) == nil {
			all = append(all, m)
		}
		for _, m := range all {
			m.TLSIn, m.TLSOut = nil, nil // which would read files
			require.Positive(t, m.timeout())
			if check([]*mapping{m}) == nil && !strings.Contains(m.Listen.addr, "=") {
				again := new(mapping)
				require.NoError(t, again.parse(m.Listen.String()+"="+m.Target.String()))
				require.Equal(t, [2]string{m.Listen.String(), m.Target.String()}, [2]string{again.Listen.String(), again.Target.String()})
			}
		}
	})
}

// FuzzGreeting reads the PROXY header of a client. What follows it is carried, every byte.
func FuzzGreeting(f *testing.F) {
	from, to := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2}
	from6, to6 := &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}, &net.TCPAddr{IP: net.ParseIP("2001:db8::2"), Port: 2}
	for _, version := range []byte{1, 2} {
		for _, ends := range [][2]*net.TCPAddr{{from, to}, {from6, to6}} {
			b, err := proxyproto.HeaderProxyFromAddrs(version, ends[0], ends[1]).Format()
			require.NoError(f, err)
			f.Add(b, []byte("hello"))
			f.Add(b[:len(b)-1], []byte{})
		}
	}
	for _, seed := range []string{"PROXY UNKNOWN\r\n", "PROXY TCP4 1.2.3.4 1.2.3.5 70000 1\r\n", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "GET / HTTP/1.1\r\n"} {
		f.Add([]byte(seed), []byte("hello"))
	}
	f.Fuzz(func(t *testing.T, head, rest []byte) {
		client := &said{left: append(append([]byte(nil), head...), rest...)}
		c := newCarried(&mapping{ProxyIn: true}, client)
		c.from, c.to = from, to
		if err := c.readHeader(); err != nil {
			return
		}
		require.NotNil(t, c.from)
		require.NotNil(t, c.to)
		taken := len(head) + len(rest) - len(c.early) - len(client.left)
		require.Positive(t, taken, "a header of no bytes")
		carried := append(c.early, client.left...)
		require.Equal(t, append(append([]byte{}, head...), rest...)[taken:], append([]byte{}, carried...))
	})
}

// said is a connection on which all that is to come has come.
type said struct {
	net.Conn
	left []byte
}

func (s *said) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

func (s *said) RemoteAddr() net.Addr { return nil }
func (s *said) LocalAddr() net.Addr  { return nil }
