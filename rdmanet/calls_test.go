package rdmanet_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// A slowLeaver is a queue pair whose calls take a while to leave after an interrupt. It reports
// each call that begins, and records an end of the queue pair that comes before the calls have
// left.
type slowLeaver struct {
	transport.QueuePair
	begun chan struct{}
	calls atomic.Int32
	early atomic.Bool
}

func (q *slowLeaver) Wait(deadline time.Time) error {
	q.calls.Add(1)
	defer q.calls.Add(-1)
	select {
	case q.begun <- struct{}{}:
	default:
	}
	err := q.QueuePair.Wait(deadline)
	if errors.Is(err, transport.ErrInterrupted) {
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func (q *slowLeaver) Close() error {
	if q.calls.Load() > 0 {
		q.early.Store(true)
	}
	return q.QueuePair.Close()
}

func (q *slowLeaver) Abort() error {
	if q.calls.Load() > 0 {
		q.early.Store(true)
	}
	return q.QueuePair.Abort()
}

// Close ends the queue pair, and returns, only after the calls that it ends have left.
func TestCloseWaitsForCalls(t *testing.T) {
	for name, call := range map[string]func(c *rdmanet.Conn) error{
		"Read": func(c *rdmanet.Conn) error {
			_, err := c.Read(make([]byte, 1))
			return err
		},
		"Write": func(c *rdmanet.Conn) error {
			_, err := c.Write(make([]byte, 10000))
			return err
		},
		"WriteTo": func(c *rdmanet.Conn) error {
			_, err := c.WriteTo(io.Discard)
			return err
		},
		"ReadFrom": func(c *rdmanet.Conn) error {
			_, err := c.ReadFrom(bytes.NewReader(make([]byte, 10000)))
			return err
		},
	} {
		for _, linger := range []int{-1, 0} {
			t.Run(name, func(t *testing.T) {
				var q *slowLeaver
				s := setting{wrap: func(qp transport.QueuePair) transport.QueuePair {
					l := &slowLeaver{QueuePair: restricted{qp, false}, begun: make(chan struct{}, 1)}
					if q == nil {
						q = l // the active end is made first
					}
					return l
				}}
				e := connect(t, s)
				require.NoError(t, e.a.SetLinger(linger))
				if name == "Write" || name == "ReadFrom" {
					fill(t, e.a)
				}
				for len(q.begun) > 0 {
					<-q.begun
				}
				done := make(chan error, 1)
				go func() { done <- call(e.a) }()
				<-q.begun
				require.NoError(t, within(t, e.a.Close))
				require.False(t, q.early.Load(), "the queue pair was ended under a call")
				require.ErrorIs(t, within(t, func() error { return <-done }), net.ErrClosed)
			})
		}
	}
}

// Many calls of all kinds, begun before and after Close.
func TestCloseUnderCalls(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			for range 20 {
				e := connect(t, s)
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						for b := make([]byte, 1000); ; {
							if _, err := e.a.Read(b); err != nil {
								return
							}
						}
					})
					wg.Go(func() {
						for b := make([]byte, 1000); ; {
							if _, err := e.a.Write(b); err != nil {
								return
							}
						}
					})
				}
				go io.Copy(io.Discard, e.b)
				require.NoError(t, within(t, e.a.Close))
				_, err := e.a.Read(nil)
				require.ErrorIs(t, err, net.ErrClosed)
				within(t, func() bool { wg.Wait(); return true })
				require.NoError(t, e.b.Close())
			}
		})
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A Writer may use the connection that WriteTo reads from.
func TestWriterUsesConn(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		_, err := x.Write([]byte("head"))
		require.NoError(t, err)
		var body [4]byte
		within(t, func() bool {
			n, err := y.WriteTo(writerFunc(func(p []byte) (int, error) {
				if _, err := x.Write([]byte("body")); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(y, body[:]); err != nil {
					t.Error(err)
				}
				if err := y.SetReadDeadline(time.Unix(1, 0)); err != nil {
					t.Error(err)
				}
				if _, err := y.Read(body[:]); !isTimeout(err) {
					t.Error(err)
				}
				if err := y.Close(); err != nil {
					t.Error(err)
				}
				return len(p), nil
			}))
			require.EqualValues(t, 4, n)
			requireOpError(t, y, err, "writeto", net.ErrClosed)
			return true
		})
		require.Equal(t, "body", string(body[:]))
	})
}

// A jammed queue pair sends nothing once it is told so, as one whose peer does not read: what is
// posted stays on the send queue.
type jammed struct {
	transport.QueuePair
	depth     int
	interrupt chan struct{}

	mu     sync.Mutex
	on     bool
	posted int
}

func newJammed(qp transport.QueuePair) *jammed {
	return &jammed{QueuePair: qp, depth: qp.Attributes().SendDepth,
		interrupt: make(chan struct{}, 1)}
}

func (q *jammed) jam() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.on = true
}

func (q *jammed) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.posted
}

func (q *jammed) PostSend(wrs []transport.SendWR) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.on {
		return q.QueuePair.PostSend(wrs)
	}
	n := min(len(wrs), q.depth-q.posted)
	q.posted += n
	if n < len(wrs) {
		return n, transport.ErrQueueFull
	}
	return n, nil
}

func (q *jammed) Drain(deadline time.Time) error {
	q.mu.Lock()
	on := q.on
	q.mu.Unlock()
	if !on {
		return q.QueuePair.Drain(deadline)
	}
	var expired <-chan time.Time
	if !deadline.IsZero() {
		expired = time.After(time.Until(deadline))
	}
	select {
	case <-q.interrupt:
		return transport.ErrInterrupted
	case <-expired:
		return errDeadline
	}
}

func (q *jammed) Interrupt() {
	select {
	case q.interrupt <- struct{}{}:
	default:
	}
	q.QueuePair.Interrupt()
}

// A peer that provokes words and takes none makes no call overstay its deadline, and does not hold
// up Close.
func TestPeerThatTakesNoWords(t *testing.T) {
	n := prepare(t, setting{}, &transport.Options{RecvDepth: rawSlots, SendDepth: 256})
	var q *jammed
	accept := n.accept
	n.accept = func() (transport.Request, error) {
		r, err := accept()
		if err == nil {
			q = newJammed(r.QueuePair())
			r = otherRequest{r, q}
		}
		return r, err
	}
	const extension = "iWAR\x01\x00"
	p := newRawPeer(t, n.k.QueuePair(), func(b []byte) []byte { return append(b, extension...) })
	answer := make(chan []byte, 1)
	go func() {
		b, err := n.k.Connect(testContext(t), p.private)
		if err != nil {
			t.Error(err)
		}
		answer <- b
	}()
	r, err := n.accept()
	require.NoError(t, err)
	c, err := rdmanet.Server(testContext(t), r, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		go c.Close() // it may hang where the test fails
		p.qp.Close()
	})
	p.told(<-answer)
	require.True(t, c.Extended())
	q.jam()

	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	// Each round costs the Conn an entry of its send queue.
	for i := range 300 {
		before := q.count()
		p.expose(i%16, uint64(i%16)<<20, p.ringMR, 4096)
		p.send(wordIomap | 1<<27 | uint32(i%16))
		require.NoError(t, p.qp.Drain(time.Now().Add(limit)))
		wait := limit
		if before > 100 { // and it may have no more to say
			wait = 100 * time.Millisecond
		}
		for end := time.Now().Add(wait); q.count() == before && time.Now().Before(end); {
			time.Sleep(100 * time.Microsecond)
		}
		if q.count() == before {
			break
		}
	}
	require.Greater(t, q.count(), 100)
	require.NoError(t, within(t, func() error { return c.SetDeadline(time.Unix(1, 0)) }))
	require.Error(t, within(t, func() error { return <-read }))
	require.Error(t, within(t, func() error {
		_, err := c.Write([]byte("x"))
		return err
	}))
	require.Error(t, within(t, func() error {
		_, err := c.Read(make([]byte, 1))
		return err
	}))
	require.NoError(t, within(t, c.Close))
}

// The first Write after the peer's Close is taken, the next is not, as package net has it. The
// farewell of TLS is such a Write.
func TestWriteAfterPeersClose(t *testing.T) {
	for _, s := range append([]setting{{name: "net"}}, settings...) {
		t.Run(s.name, func(t *testing.T) {
			var x, y net.Conn
			if s.name == "net" {
				x, y = connectTCP(t)
			} else {
				e := connect(t, s)
				x, y = e.a, e.b
			}
			defer x.Close()
			require.NoError(t, y.Close())
			_, err := x.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err)
			n, err := x.Write([]byte("x"))
			require.Equal(t, 1, n)
			require.NoError(t, err)
			for end := time.Now().Add(limit); err == nil && time.Now().Before(end); {
				_, err = x.Write([]byte("y")) // package net learns of it by a reset
			}
			require.ErrorIs(t, err, syscall.EPIPE)
		})
	}
}

// An overtaken queue pair has the peer's end seen by others once it is told to, just before it
// posts.
type overtaken struct {
	wrapper
	transport.Looker
	armed atomic.Bool
	end   func()
}

func (q *overtaken) PostSend(wrs []transport.SendWR) (int, error) {
	if q.armed.CompareAndSwap(true, false) {
		q.end()
		for end := time.Now().Add(limit); q.Err() == nil && time.Now().Before(end); {
			q.Look()
		}
	}
	return q.QueuePair.PostSend(wrs)
}

// The first Write after the peer's Close is taken also where the end is seen while it is under way.
func TestWriteOvertakenByTheEnd(t *testing.T) {
	var q *overtaken
	p, c, _ := dialRawTo(t, setting{wrap: func(qp transport.QueuePair) transport.QueuePair {
		q = &overtaken{wrapper: wrapper{qp}, Looker: qp.(transport.Looker)}
		return q
	}}, nil, nil)
	q.end = func() {
		p.send(wordDisconnect)
		if err := errors.Join(p.qp.Drain(time.Now().Add(limit)), p.qp.Close()); err != nil {
			t.Error(err)
		}
	}
	q.armed.Store(true)
	n, err := c.Write([]byte("x"))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, io.EOF, q.Err())
	_, err = c.Write([]byte("y"))
	require.ErrorIs(t, err, syscall.EPIPE)
}

func TestTLSFarewell(t *testing.T) {
	h := httptest.NewTLSServer(nil)
	cert := h.TLS.Certificates
	h.Close()
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		client := tls.Client(x, &tls.Config{InsecureSkipVerify: true})
		server := tls.Server(y, &tls.Config{Certificates: cert})
		wait := background(t, func() {
			if err := server.Handshake(); err != nil {
				t.Error(err)
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
		_, err := client.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		wait()
		require.NoError(t, client.Close())
	})
}

// A connection that is garbage is closed: its peer reads io.EOF.
func TestGarbageIsClosed(t *testing.T) {
	for _, s := range settings {
		if s.device || s.immediate {
			continue // their stand-ins keep nothing weakly
		}
		for name, use := range map[string]func(t *testing.T, c, peer *rdmanet.Conn){
			"idle": func(*testing.T, *rdmanet.Conn, *rdmanet.Conn) {},
			"unread": func(t *testing.T, _, peer *rdmanet.Conn) {
				_, err := peer.Write([]byte("hello"))
				require.NoError(t, err)
			},
			"read and written": func(t *testing.T, c, peer *rdmanet.Conn) {
				_, err := peer.Write([]byte("hello"))
				require.NoError(t, err)
				_, err = io.ReadFull(c, make([]byte, 5))
				require.NoError(t, err)
				_, err = c.Write([]byte("hello"))
				require.NoError(t, err)
			},
			"blocked output": func(t *testing.T, c, _ *rdmanet.Conn) { fill(t, c) },
		} {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				peer := dropped(t, s, use)
				done := make(chan error, 1)
				go func() {
					_, err := io.Copy(io.Discard, peer)
					done <- err
				}()
				for end := time.Now().Add(limit); ; {
					runtime.GC()
					select {
					case err := <-done:
						require.NoError(t, err)
						return
					case <-time.After(time.Millisecond):
						require.True(t, time.Now().Before(end), "it is not closed")
					}
				}
			})
		}
	}
}

// dropped connects, uses one end and forgets it.
func dropped(t *testing.T, s setting, use func(t *testing.T, c, peer *rdmanet.Conn)) *rdmanet.Conn {
	e, err := tryConnect(t, s)
	require.NoError(t, err)
	peer := e.b
	t.Cleanup(func() { peer.Close() })
	use(t, e.a, peer)
	return peer
}

// Memory that was given back is not handed out.
func TestBytesOfClosedRegion(t *testing.T) {
	e := connect(t, setting{})
	r, err := e.a.Expose(0, 4096)
	require.NoError(t, err)
	require.Len(t, r.Bytes(), 4096)
	require.NoError(t, e.a.Close())
	require.NoError(t, within(t, r.Close))
	require.True(t, r.Bytes() == nil)
}
