package iwarp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/rdmanet/iwarp"
)

// server echoes what each client sends.
func server(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

func Example() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go server(l)

	c, err := iwarp.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, "hello")
	line := make([]byte, 6)
	if _, err := io.ReadFull(c, line); err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(line))
	// Output: hello
}

// One port serves clients that use iWARP and clients that know nothing of it.
func ExampleListen() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go server(l)

	legacy, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer legacy.Close()
	fmt.Fprint(legacy, "tcp")

	modern, err := (&iwarp.Dialer{Offload: iwarp.OffloadRequire}).Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer modern.Close()
	fmt.Fprint(modern, "rdm")

	for _, c := range []net.Conn{legacy, modern} {
		b := make([]byte, 3)
		if _, err := io.ReadFull(c, b); err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(b))
	}
	// Output:
	// tcp
	// rdm
}

func ExampleDialContext() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := iwarp.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.RemoteAddr().Network())
	_ = c.Close()
	// Output: tcp
}

// A Dialer has the fields of net.Dialer, and a policy.
func ExampleDialer() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go server(l)

	d := iwarp.Dialer{Timeout: 5 * time.Second, Offload: iwarp.OffloadPrefer}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	info, _ := iwarp.Describe(c)
	fmt.Println(info.Transport, info.Reason)
	// Output: soft none
}

// A server that knows nothing of iWARP is reached by plain TCP.
func ExampleDescribe() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "220 ready\r\n")
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()

	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	info, _ := iwarp.Describe(c)
	_, isTCP := c.(*net.TCPConn)
	fmt.Printf("%s: %v, %v\n", info.Transport, info.Reason, isTCP)
	// Output: tcp: peer does not speak iwarp, true
}

// A port is reserved before the service is ready, and nobody else can take it in between.
func ExamplePortSpace_Reserve() {
	r, err := iwarp.DefaultPortSpace.Reserve(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	// Tell the world about r.Addr() ...
	l, err := iwarp.Listen("tcp", r.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	fmt.Println(l.Addr().String() == r.Addr().String())
	// Output: true
}

func ExampleListenConfig() {
	lc := iwarp.ListenConfig{
		Offload:          iwarp.OffloadAuto,
		FirstByteTimeout: 200 * time.Millisecond, // for a protocol whose server speaks first
	}
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	fmt.Printf("%T\n", l)
	// Output: *iwarp.Listener
}

// An http.Server takes any net.Listener, an http.Transport any DialContext.
func ExampleDialer_DialContext_http() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()

	d := iwarp.Dialer{Offload: iwarp.OffloadRequire}
	t := http.DefaultTransport.(*http.Transport).Clone() // with HTTP/2, proxies and time-outs
	t.DialContext = d.DialContext
	client := &http.Client{Transport: t}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://" + l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
	// Output: hello
}

// ContextDialer has the shape of grpc.WithContextDialer, mysql.RegisterDialContext and
// clickhouse-go's DialContext.
func ExampleContextDialer() {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	var hook func(ctx context.Context, address string) (net.Conn, error) = iwarp.ContextDialer
	c, err := hook(context.Background(), l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.RemoteAddr().Network())
	_ = c.Close()
	// Output: tcp
}
