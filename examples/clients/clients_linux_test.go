package clients

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
)

// patience bounds what a test waits for.
const patience = time.Minute

var (
	redisServer = testkit.Server{Binary: "redis-server", Args: func(r *testkit.Served) []string {
		return []string{"--port", r.Port, "--bind", "127.0.0.1", "--save", "", "--dir", r.Dir}
	}}
	memcached  = testkit.Server{Binary: "memcached", Args: func(r *testkit.Served) []string { return []string{"-u", "root", "-l", "127.0.0.1", "-p", r.Port} }}
	natsServer = testkit.Server{Binary: "nats-server", Args: func(r *testkit.Served) []string { return []string{"-a", "127.0.0.1", "-p", r.Port} }}
	postgres   = testkit.Server{Binary: "/usr/lib/postgresql/*/bin/postgres", User: "postgres", Prep: func(t *testing.T, r *testkit.Served) {
		r.Do(t, filepath.Join(filepath.Dir(r.Binary), "initdb"), "-D", r.Path("data"), "-A", "trust", "--no-sync")
	}, Args: func(r *testkit.Served) []string {
		return []string{"-D", r.Path("data"), "-p", r.Port, "-h", "127.0.0.1", "-k", r.Dir}
	}, Ready: func(r *testkit.Served) *exec.Cmd {
		return exec.Command(filepath.Join(filepath.Dir(r.Binary), "pg_isready"), "-h", "127.0.0.1", "-p", r.Port)
	}}
	mariadb = testkit.Server{Binary: "mariadbd", User: "mysql", Prep: func(t *testing.T, r *testkit.Served) {
		r.Do(t, "mariadb-install-db", "--no-defaults", "--force", "--datadir="+r.Path("data"), "--skip-test-db", "--auth-root-authentication-method=normal")
	}, Args: func(r *testkit.Served) []string {
		return []string{"--no-defaults", "--datadir=" + r.Path("data"), "--bind-address=127.0.0.1", "--port=" + r.Port, "--socket=" + r.Path("socket"), "--pid-file=" + r.Path("pid")}
	}}
	sshd = testkit.Server{Binary: "sshd", Prep: func(t *testing.T, r *testkit.Served) {
		for _, key := range []string{"host", "user"} {
			r.Do(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", r.Path(key))
		}
		require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
	}, Args: func(r *testkit.Served) []string {
		return []string{"-D", "-e", "-f", "/dev/null", "-h", r.Path("host"), "-p", r.Port, "-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none",
			"-o", "StrictModes=no", "-o", "AuthorizedKeysFile=" + r.Path("user.pub")}
	}}
)

// TestClients has each program talk to the real server through the gateway, which takes nothing but
// iWARP. The programs take nothing else, too.
func TestClients(t *testing.T) {
	bin := t.TempDir()
	build(t, ".", bin, "./...")
	build(t, "../../cmd", bin, "./iwarp-gateway")
	for _, tt := range []struct {
		name   string
		server testkit.Server
		args   func(address string, r *testkit.Served) []string // nil means the address
		want   string
	}{
		{name: "redis", server: redisServer, want: "hello from redis\n"},
		{name: "memcache", server: memcached, want: "hello from memcached\n"},
		{name: "nats", server: natsServer, want: "hello from nats\n"},
		{name: "pgx", server: postgres, want: "hello from postgresql <nil>\n",
			args: func(address string, _ *testkit.Served) []string {
				return []string{"postgres://postgres@" + address + "/postgres"}
			}},
		{name: "mysql", server: mariadb, want: "hello from mysql <nil>\n"},
		{name: "ssh", server: sshd, want: "hello from ssh\n",
			args: func(address string, r *testkit.Served) []string {
				return []string{address, "root", r.Path("user"), "echo hello from ssh"}
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := tt.server.Start(t, freePort(t), patience)
			address, log := gateway(t, bin, r.Port)
			args := []string{address}
			if tt.args != nil {
				args = tt.args(address, r)
			}
			require.Equal(t, tt.want, program(t, bin, tt.name, args...))
			require.Contains(t, log(), "soft", "the path of the client's connection")
		})
	}
}

// TestBothEnds has programs that are server and client in one.
func TestBothEnds(t *testing.T) {
	bin := t.TempDir()
	build(t, ".", bin, "./fasthttp", "./connect", "./h2c")
	for name, want := range map[string]string{
		"fasthttp": "hello from fasthttp <nil>\n", "connect": "hello from connect\n", "h2c": "hello from HTTP/2.0 <nil>\n",
	} {
		require.Equal(t, want, program(t, bin, name))
	}
}

// TestKafka has a fake of brokers, that of franz-go, listen by iWARP alone: Debian has no Kafka.
func TestKafka(t *testing.T) {
	bin := t.TempDir()
	build(t, ".", bin, "./kafka")
	lc := iwarp.ListenConfig{Offload: iwarp.OffloadRequire}
	brokers, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "greetings"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		return lc.Listen(t.Context(), network, address)
	}))
	require.NoError(t, err)
	defer brokers.Close()
	require.Equal(t, "hello from kafka <nil>\n", program(t, bin, "kafka", brokers.ListenAddrs()...))
}

// TestMongo has what answers as MongoDB does to these three commands listen by iWARP alone: Debian
// has no MongoDB.
func TestMongo(t *testing.T) {
	bin := t.TempDir()
	build(t, ".", bin, "./mongo")
	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerMongo(c)
		}
	}()
	defer l.Close()
	require.Equal(t, "hello from mongo <nil>\n", program(t, bin, "mongo", "mongodb://"+l.Addr().String()))
}

// inserted are the documents of answerMongo.
var inserted = struct {
	sync.Mutex
	first bson.Raw
}{}

// answerMongo answers commands of MongoDB, each a document in a message of its wire protocol, be it
// OP_QUERY, by which drivers begin, or OP_MSG.
func answerMongo(c net.Conn) {
	defer c.Close()
	const opReply, opQuery, opMsg = 1, 2004, 2013
	for {
		var h struct{ Length, ID, To, Op int32 }
		if binary.Read(c, binary.LittleEndian, &h) != nil || h.Length < 16 || h.Length > 1<<20 {
			return
		}
		b := make([]byte, h.Length-16)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		op, head := opMsg, make([]byte, 5) // flags, and a section with one document
		if h.Op == opQuery {
			_, b, _ = bytes.Cut(b[4:], []byte{0}) // flags and the name of the collection
			b = b[8:]                             // numbers to skip and to return
			op, head = opReply, make([]byte, 20)
			head[16] = 1 // the number of documents
		} else {
			b = b[5:]
		}
		answer, err := bson.Marshal(command(b))
		if err != nil {
			return
		}
		out, _ := binary.Append(nil, binary.LittleEndian, []int32{int32(16 + len(head) + len(answer)), h.ID, h.ID, int32(op)})
		if _, err := c.Write(append(append(out, head...), answer...)); err != nil {
			return
		}
	}
}

// command returns the answer to the command at the front of b. What is inserted may come in b, or
// in a section after it.
func command(b []byte) bson.D {
	inserted.Lock()
	defer inserted.Unlock()
	request := bson.Raw(b[:binary.LittleEndian.Uint32(b)])
	name := "hello"
	if all, err := request.Elements(); err == nil && len(all) > 0 {
		name = all[0].Key()
	}
	switch name {
	case "insert":
		if docs, ok := request.Lookup("documents").ArrayOK(); ok {
			inserted.first = docs.Index(0).Document()
		} else if rest := b[len(request):]; len(rest) > 5 {
			_, doc, _ := bytes.Cut(rest[5:], []byte{0}) // kind, size, and "documents"
			inserted.first = bson.Raw(doc)
		}
		return bson.D{{Key: "n", Value: 1}, {Key: "ok", Value: 1}}
	case "find":
		cursor := bson.D{{Key: "id", Value: int64(0)}, {Key: "ns", Value: "test.greetings"}, {Key: "firstBatch", Value: bson.A{inserted.first}}}
		return bson.D{{Key: "cursor", Value: cursor}, {Key: "ok", Value: 1}}
	}
	return bson.D{
		{Key: "isWritablePrimary", Value: true}, {Key: "ismaster", Value: true}, {Key: "maxBsonObjectSize", Value: 16 << 20},
		{Key: "maxMessageSizeBytes", Value: 48000000}, {Key: "maxWriteBatchSize", Value: 100000},
		{Key: "minWireVersion", Value: 0}, {Key: "maxWireVersion", Value: 25}, {Key: "ok", Value: 1},
	}
}

// TestReverseProxy has iWARP on either side of the proxy, or on both.
func TestReverseProxy(t *testing.T) {
	bin := t.TempDir()
	build(t, ".", bin, "./reverseproxy")
	for _, tt := range []struct{ clients, backend iwarp.Offload }{
		{iwarp.OffloadRequire, iwarp.OffloadNever}, {iwarp.OffloadNever, iwarp.OffloadRequire}, {iwarp.OffloadRequire, iwarp.OffloadRequire},
	} {
		l, err := (&iwarp.ListenConfig{Offload: tt.backend}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
		require.NoError(t, backend.Listener.Close())
		backend.Listener = l
		backend.Start()
		defer backend.Close()

		c := exec.Command(filepath.Join(bin, "reverseproxy"), "127.0.0.1:0", backend.URL)
		c.Env = append(os.Environ(), "IWARP_OFFLOAD="+tt.backend.String(), "IWARP_LISTEN_OFFLOAD="+tt.clients.String())
		address := firstLine(t, c)
		d := iwarp.Dialer{Offload: tt.clients}
		client := &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, Timeout: patience}
		answer, err := client.Get("http://" + address)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, "hello", string(body))
	}
}

// TestLength keeps the programs short.
func TestLength(t *testing.T) {
	files, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	require.Len(t, files, 12)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.LessOrEqual(t, bytes.Count(b, []byte("\n")), 40, file)
	}
}

func build(t *testing.T, dir, to string, packages ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "go", append([]string{"build", "-C", dir, "-o", to + "/"}, packages...)...)
	out, err := c.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
}

// program runs one over iWARP alone.
func program(t *testing.T, bin, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), filepath.Join(bin, name), args...)
	var errs bytes.Buffer
	c.Env, c.Stderr = append(os.Environ(), "IWARP_OFFLOAD=require"), &errs
	out, err := c.Output()
	require.NoErrorf(t, err, "%s%s", out, errs.String())
	return string(out)
}

// firstLine starts a process until the end of the test, and returns what it says first.
func firstLine(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	c.Stderr = os.Stderr
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

// gateway carries what comes by iWARP to the port, until the end of the test. log ends it and
// returns what it has said.
func gateway(t *testing.T, bin, port string) (address string, log func() string) {
	t.Helper()
	c := exec.Command(filepath.Join(bin, "iwarp-gateway"), "iwarp://127.0.0.1:0=tcp://127.0.0.1:"+port)
	out, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	var said strings.Builder
	lines, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			if _, rest, ok := strings.Cut(s.Text(), " listen="); ok && strings.Contains(s.Text(), "listening") {
				lines <- strings.Fields(rest)[0]
			} else {
				said.WriteString(s.Text() + "\n")
			}
		}
	}()
	log = func() string {
		_ = c.Process.Signal(syscall.SIGTERM)
		<-ended
		_ = c.Wait()
		return said.String()
	}
	t.Cleanup(func() { _ = log() })
	select {
	case address = <-lines:
	case <-time.After(patience):
		t.Fatal("the gateway does not listen")
	}
	return address, log
}

// ports are those that were given to servers.
var ports atomic.Int32

// freePort returns a port below those that the kernel chooses from.
func freePort(t *testing.T) string {
	for range 1000 {
		port := 20000 + (os.Getpid()*50+int(ports.Add(1)))%10000
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		require.NoError(t, l.Close())
		return strconv.Itoa(port)
	}
	t.Fatal("no free port")
	return ""
}
