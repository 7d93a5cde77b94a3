//go:build unix

package caddy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	caddyserver "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	_ "github.com/rdmanet/iwarp/test/services/caddy"
	"github.com/rdmanet/iwarp/test/services/load"
)

// runCaddy is set for the process that is Caddy, to the folder of its admin socket.
const runCaddy = "SERVICES_RUN_CADDY"

func TestMain(m *testing.M) {
	_ = os.Unsetenv("IWARP_OFFLOAD")
	_ = os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	if folder := os.Getenv(runCaddy); folder != "" {
		if err := serve(folder); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve runs Caddy. It says which port it has, and takes each byte that it reads as the leave to
// end one held answer.
func serve(folder string) error {
	r, err := iwarp.DefaultPortSpace.Reserve(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := r.Addr().(*net.TCPAddr).AddrPort().Port()
	if err := caddyserver.Load(config(folder, port, 0), true); err != nil {
		return err
	}
	fmt.Println(port)
	for {
		if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
			return err // the test is gone
		}
		leave <- struct{}{}
	}
}

// leave is what held answers wait for.
var leave = make(chan struct{})

const begin = "held, "

// hold answers in two parts, the second when it has leave.
type hold struct{}

func init() { caddyserver.RegisterModule(hold{}) }

func (hold) CaddyModule() caddyserver.ModuleInfo {
	return caddyserver.ModuleInfo{ID: "http.handlers.hold", New: func() caddyserver.Module { return new(hold) }}
}

func (hold) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if _, err := io.WriteString(w, begin); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		return err
	}
	select {
	case <-leave:
		return next.ServeHTTP(w, r)
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

type object = map[string]any

// config is that of the nth load, which listens elsewhere as well.
func config(folder string, port uint16, n int, elsewhere ...string) []byte {
	text := object{"handler": "static_response", "body": answer(n)}
	site := object{
		"listen":          append([]string{fmt.Sprintf("iwarp/127.0.0.1:%d", port)}, elsewhere...),
		"protocols":       []string{"h1"},
		"automatic_https": object{"disable": true},
		"routes": []object{
			{"match": []object{{"path": []string{"/held"}}}, "handle": []object{{"handler": "hold"}, text}},
			{"handle": []object{text}},
		},
	}
	b, err := json.Marshal(object{
		"admin":   object{"listen": "unix/" + admin(folder), "config": object{"persist": false}},
		"logging": object{"logs": object{"default": object{"level": "FATAL"}}},
		"apps":    object{"http": object{"servers": object{"site": site}}},
	})
	if err != nil {
		panic(err)
	}
	return b
}

func answer(n int) string { return fmt.Sprintf("configuration %d", n) }

func admin(folder string) string { return filepath.Join(folder, "admin.sock") }

// server is Caddy in a process of its own.
type server struct {
	folder  string
	port    uint16
	process *exec.Cmd
	leave   io.Writer
	admin   *http.Client
}

func start(t *testing.T) *server {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	folder, err := os.MkdirTemp("", "caddy") // short enough for a socket's name
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	c := exec.Command(path)
	c.Env = append(os.Environ(), runCaddy+"="+folder, "HOME="+folder, "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	})
	s := &server{folder: folder, process: c, leave: in}
	_, err = fmt.Fscan(bufio.NewReader(out), &s.port)
	require.NoError(t, err, "Caddy serves")
	s.admin = &http.Client{Timeout: load.Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", admin(folder))
		},
	}}
	return s
}

func (s *server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// post is what the commands of caddy do: reload posts a configuration to /load.
func (s *server) post(path string, body []byte) error {
	resp, err := s.admin.Post("http://127.0.0.1"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, said)
	}
	return err
}

var dialers = []*iwarp.Dialer{
	{Offload: iwarp.OffloadRequire, Timeout: load.Patience},
	{Offload: iwarp.OffloadNever, Timeout: load.Patience},
}

// held begins requests on both paths whose answers wait for leave, and returns what gives it and
// compares the answers.
func (s *server) held(t *testing.T) func(want string) {
	t.Helper()
	var bodies []io.ReadCloser
	for _, d := range dialers {
		resp, err := load.Client(d).Get("http://" + s.address() + "/held")
		require.NoError(t, err)
		_, err = io.ReadFull(resp.Body, make([]byte, len(begin)))
		require.NoError(t, err)
		bodies = append(bodies, resp.Body)
	}
	return func(want string) {
		t.Helper()
		_, err := s.leave.Write(make([]byte, len(bodies)))
		require.NoError(t, err)
		for _, body := range bodies {
			rest, err := io.ReadAll(body)
			require.NoError(t, err)
			require.Equal(t, want, string(rest))
			require.NoError(t, body.Close())
		}
	}
}

// answers compares what clients that come now are told.
func (s *server) answers(t *testing.T, want string) {
	t.Helper()
	for _, d := range dialers {
		said, err := load.Get(load.Client(d), s.address())
		require.NoError(t, err)
		require.Equal(t, want, said)
	}
}

// listensOnce looks at the port.
func (s *server) listensOnce(t *testing.T) {
	t.Helper()
	holders, err := iwarp.DefaultPortSpace.Holders(s.port)
	if errors.Is(err, errors.ErrUnsupported) {
		return
	}
	require.NoError(t, err)
	n := 0
	for _, h := range holders {
		if h.State == "listening" {
			require.Equal(t, s.process.Process.Pid, h.PID)
			n++
		}
	}
	require.Equal(t, 1, n, "sockets that listen")
}

// TestReload has Caddy load configurations under load, as caddy reload does: no request fails, what
// has begun ends as it began, and whoever comes later is answered by the new configuration. One
// that cannot be loaded changes nothing. Then Caddy stops, as by caddy stop.
func TestReload(t *testing.T) {
	const reloads, requests = 20, 5000
	s := start(t)
	var seen [reloads + 1]atomic.Bool
	clients := load.Start(s.address(), func(said string) error {
		var n int
		if _, err := fmt.Sscanf(said, "configuration %d", &n); err != nil || n < 0 || n > reloads {
			return fmt.Errorf("answer is %q", said)
		}
		seen[n].Store(true)
		return nil
	})
	defer clients.Stop()
	for n := 1; n <= reloads; n++ {
		clients.Await(t, n*requests/(reloads+1))
		release := s.held(t)
		require.NoError(t, s.post("/load", config(s.folder, s.port, n)))
		s.answers(t, answer(n))
		release(answer(n - 1))
		s.listensOnce(t)
		require.ErrorContains(t, s.post("/load", config(s.folder, s.port, n+1, "tcp/192.0.2.1:9")), "192.0.2.1")
		s.answers(t, answer(n))
	}
	clients.Await(t, requests)
	clients.Stop()
	clients.Check(t)
	for n := range seen {
		require.True(t, seen[n].Load(), "configuration %d has answered", n)
	}
	s.stop(t, answer(reloads))
}

// stop has Caddy end, which answers what it has.
func (s *server) stop(t *testing.T, want string) {
	t.Helper()
	release := s.held(t)
	stopped := make(chan error, 1)
	go func() { stopped <- s.post("/stop", nil) }()
	for end := time.Now().Add(load.Patience); ; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), "new clients are refused")
		c, err := net.Dial("tcp", s.address())
		if err != nil {
			break
		}
		_ = c.Close()
	}
	release(want)
	require.NoError(t, <-stopped)
	require.NoError(t, s.process.Wait())
}
