package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

func init() { testkit.Processes["service"] = runService }

// What a service is told by its environment: policy, and the limit of a set-up.
const policyVariable, limitVariable = "IWARP_TEST_POLICY", "IWARP_TEST_LIMIT"

// runService echoes what clients send, and says where. Each line that it is told is a way to dial
// itself, of which it says how it went; "old" tries a connection that was there from the beginning,
// "send" and a number of bytes the one that "connect" has made last, and "failures" has it say
// those of Accept since the last time.
func runService() int {
	policy, err := iwarp.ParseOffload(os.Getenv(policyVariable))
	limit, _ := time.ParseDuration(os.Getenv(limitVariable))
	if err != nil {
		return 1
	}
	l, err := (&iwarp.ListenConfig{Offload: policy, HandshakeTimeout: limit}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	failures := make(chan string, 10_000)
	go echoOn(l, func(err error) { failures <- said(err) })
	dial := func(way string) (net.Conn, error) { return dialBy(policy, way, l.Addr().String()) }
	old, err := dial("soft")
	if err == nil {
		err = exchange(old) // so that it is accepted
	}
	if err != nil {
		return 1
	}
	fmt.Println(l.Addr())
	last := old
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch way := in.Text(); way {
		case "old":
			fmt.Println(said(exchange(old)))
		case "connect":
			if last, err = dial("soft"); err == nil {
				err = exchange(last)
			}
			fmt.Println(said(err))
		case "send 1":
			fmt.Println(said(exchange(last)))
		case "send 200000":
			fmt.Println(said(exchangeOf(last, 200_000)))
		case "failures":
			var all []string
			for len(failures) > 0 {
				all = append(all, <-failures)
			}
			fmt.Println(strings.Join(slices.Compact(all), "; "))
		default:
			c, err := dial(way)
			if err == nil {
				err = exchange(c)
				_ = c.Close()
			}
			fmt.Println(said(err))
		}
	}
	return 0
}

func dialBy(policy iwarp.Offload, way, addr string) (net.Conn, error) {
	d := iwarp.Dialer{Offload: policy, HandshakeTimeout: hang, Transports: []transport.Transport{soft.New(nil)}}
	if way == "shm" {
		d.Transports = []transport.Transport{shm.New(nil), soft.New(nil)}
	}
	return d.Dial("tcp", addr)
}

// said is what matters of an error.
func said(err error) string {
	var op *net.OpError
	var errno unix.Errno
	if !errors.As(err, &op) || !errors.As(err, &errno) {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("%s: %s, temporary %t", op.Op, unix.ErrnoName(errno), op.Temporary()) //nolint:staticcheck // net/http asks
}

// exchange has a byte go both ways.
func exchange(c net.Conn) error { return exchangeOf(c, 1) }

func exchangeOf(c net.Conn, n int) error {
	if err := c.SetDeadline(time.Now().Add(hang)); err != nil {
		return err
	}
	if _, err := c.Write(make([]byte, n)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, n))
	return err
}

// A service is a process that runs runService.
type service struct {
	t       *testing.T
	policy  iwarp.Offload
	process *exec.Cmd
	in      io.Writer
	out     *bufio.Reader
	addr    string
}

// startService has start start the process.
func startService(t *testing.T, policy iwarp.Offload, limit time.Duration, start func(*exec.Cmd)) *service {
	c := testkit.Command(t, "service", policyVariable+"="+policy.String(), limitVariable+"="+limit.String())
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	start(c)
	t.Cleanup(func() {
		_ = in.Close()
		_ = c.Wait() // the end of the test may end the process first
	})
	s := &service{t, policy, c, in, bufio.NewReader(out), ""}
	s.addr = s.line()
	return s
}

func (s *service) line() string {
	s.t.Helper()
	text, err := s.out.ReadString('\n')
	require.NoError(s.t, err)
	return strings.TrimSpace(text)
}

func (s *service) tell(what string) string {
	s.t.Helper()
	_, err := fmt.Fprintln(s.in, what)
	require.NoError(s.t, err)
	return s.line()
}

// exchangeNew connects from this process, which has all that it needs, and has a byte go both ways.
func (s *service) exchangeNew(way string) error {
	c, err := dialBy(s.policy, way, s.addr)
	if err == nil {
		err = exchange(c)
		_ = c.Close()
	}
	return err
}

// TestSystemIsShort has calls of the kernel fail as where the whole system is short of descriptors
// (ENFILE), buffers or memory. Errors are those of package net, what is connected goes on, clients
// that have come meanwhile are served when it is over, and so is everybody after.
func TestSystemIsShort(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			var d *denial
			s := startService(t, policy, hang, func(c *exec.Cmd) {
				d = startDenied(t, c, unix.SYS_ACCEPT4, unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_MEMFD_CREATE)
			})
			for _, errno := range []unix.Errno{unix.ENFILE, unix.ENOBUFS, unix.ENOMEM} {
				temporary := errno == unix.ENFILE // as package net has it

				d.begin(unix.SYS_ACCEPT4, errno)
				failed := make(chan error, 4)
				for range cap(failed) {
					go func() { failed <- s.exchangeNew("soft") }()
				}
				d.met(t, 3)
				require.Equal(t, "<nil>", s.tell("old"), "what is connected goes on")
				require.Eventually(t, func() bool {
					return s.tell("failures") == fmt.Sprintf("accept: %s, temporary %t", unix.ErrnoName(errno), temporary)
				}, hang, time.Millisecond)
				d.end()
				for range cap(failed) {
					require.NoError(t, <-failed, "a client that has waited is served")
				}

				for _, call := range []uint32{unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_EPOLL_CTL} {
					d.begin(call, errno)
					for range 3 {
						require.Equal(t, fmt.Sprintf("dial: %s, temporary %t", unix.ErrnoName(errno), temporary), s.tell("soft"))
					}
					require.Equal(t, "<nil>", s.tell("old"))
					require.GreaterOrEqual(t, d.end(), 3)
					require.Equal(t, "<nil>", s.tell("soft"))
				}

				d.begin(unix.SYS_MEMFD_CREATE, errno)
				require.Equal(t, "<nil>", s.tell("shm"), "another way is there")
				n := d.end()
				require.Equal(t, policy != iwarp.OffloadNever, n > 0)
				require.Equal(t, "<nil>", s.tell("shm"))
			}
			require.NoError(t, s.exchangeNew("soft"))
		})
	}
}

// TestSendIsShort has the kernel refuse what is sent, for want of buffers or memory. The Write
// fails as package net's does. That may have been within a frame, so a connection of iWARP ends by
// it; all others go on, and so does one of TCP, which has sent nothing.
func TestSendIsShort(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			var d *denial
			s := startService(t, policy, hang, func(c *exec.Cmd) {
				d = startDenied(t, c, unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_SENDMSG)
			})
			for send, errno := range map[string]unix.Errno{"send 1": unix.ENOBUFS, "send 200000": unix.ENOMEM} { // by write, and writev
				refused := fmt.Sprintf("write: %s, temporary false", unix.ErrnoName(errno))
				require.Equal(t, "<nil>", s.tell("connect"))
				d.begin(unix.SYS_WRITE, errno)
				require.Equal(t, refused, s.tell(send))
				require.NotZero(t, d.end())
				if policy >= iwarp.OffloadPrefer {
					require.Equal(t, refused, s.tell(send))
				} else {
					require.Equal(t, "<nil>", s.tell(send))
				}
				require.Equal(t, "<nil>", s.tell("old"))
				require.Equal(t, "<nil>", s.tell("soft"))
			}
			require.NoError(t, s.exchangeNew("soft"))
		})
	}
}

// TestSuspended has a service stand still, again and again, for longer than a set-up may take: what
// is connected goes on, and so do those that were connecting.
func TestSuspended(t *testing.T) {
	const limit = 50 * time.Millisecond
	for _, policy := range policies {
		for _, way := range []string{"soft", "shm"} {
			t.Run(policy.String()+"/"+way, func(t *testing.T) {
				t.Parallel()
				s := startService(t, policy, limit, func(c *exec.Cmd) { require.NoError(t, c.Start()) })
				old, err := dialBy(policy, way, s.addr)
				require.NoError(t, err)
				defer old.Close()
				var over atomic.Bool
				var exchanged, dialed atomic.Int32
				var both sync.WaitGroup
				repeat := func(n *atomic.Int32, f func() error) {
					both.Go(func() {
						for !over.Load() {
							if err := f(); !assert.NoError(t, err) {
								return
							}
							n.Add(1)
						}
					})
				}
				repeat(&exchanged, func() error { return exchange(old) })
				repeat(&dialed, func() error { return s.exchangeNew(way) })
				for range 3 {
					require.NoError(t, s.process.Process.Signal(syscall.SIGSTOP))
					time.Sleep(3 * limit)
					n, m := exchanged.Load(), dialed.Load()
					require.NoError(t, s.process.Process.Signal(syscall.SIGCONT))
					assert.Eventually(t, func() bool { return exchanged.Load() > n+1 && dialed.Load() > m+1 }, hang, time.Millisecond)
					require.Equal(t, "<nil>", s.tell("old"), "where both ends stood still")
				}
				over.Store(true)
				both.Wait()
			})
		}
	}
}
