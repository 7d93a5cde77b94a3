package iwarp_test

import (
	"context"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
)

// otherSide is what another process has of a socket.
type otherSide struct{ l net.Listener }

func takeOver(t testing.TB, f *os.File) *otherSide {
	t.Helper()
	l, err := net.FileListener(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	t.Cleanup(func() { _ = l.Close() })
	return &otherSide{l}
}

// serves has it accept a client that comes now.
func (o *otherSide) serves(t testing.TB) {
	t.Helper()
	c, err := net.DialTimeout("tcp", o.l.Addr().String(), patience)
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).SetLinger(0))
	defer c.Close()
	for {
		require.NoError(t, o.l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
		s, err := o.l.Accept()
		require.NoError(t, err)
		_ = s.Close()
		if s.RemoteAddr().String() == c.LocalAddr().String() {
			return
		}
	}
}

// listeners are the ways to a listener whose socket another process has as well.
var listeners = map[string]func(*testing.T, *iwarp.ListenConfig) (*iwarp.Listener, *otherSide){
	"adopted": func(t *testing.T, lc *iwarp.ListenConfig) (*iwarp.Listener, *otherSide) {
		manager, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = manager.Close() })
		f, err := manager.(*net.TCPListener).File()
		require.NoError(t, err)
		defer f.Close()
		_, err = lc.PortSpace.Adopt(f)
		require.NoError(t, err)
		l, err := lc.Listen(t.Context(), "tcp", manager.Addr().String())
		require.NoError(t, err)
		return l.(*iwarp.Listener), &otherSide{manager}
	},
	"file of the reservation": func(t *testing.T, lc *iwarp.ListenConfig) (*iwarp.Listener, *otherSide) {
		r := reserve(t, lc.PortSpace, "tcp", "127.0.0.1:0")
		f, err := r.File()
		require.NoError(t, err)
		l, err := lc.Listen(t.Context(), "tcp", r.Addr().String())
		require.NoError(t, err)
		return l.(*iwarp.Listener), takeOver(t, f)
	},
	"file of the listener": func(t *testing.T, lc *iwarp.ListenConfig) (*iwarp.Listener, *otherSide) {
		l := listen(t, *lc)
		f, err := l.File()
		require.NoError(t, err)
		return l, takeOver(t, f)
	},
}

// TestSharedSocketGoesOn ends a listener while a device's connection needs the port. A socket that
// another process has as well listens on.
func TestSharedSocketGoesOn(t *testing.T) {
	ends := map[string]func(*iwarp.Listener) error{
		"close": (*iwarp.Listener).Close,
		"drain": func(l *iwarp.Listener) error { return l.Drain(context.Background()) },
	}
	for how, make := range listeners {
		for with, end := range ends {
			for _, device := range []bool{false, true} {
				name := how + "/" + with
				if device {
					name += " under a device's connection"
				}
				t.Run(name, func(t *testing.T) {
					iwarp.ForgetPeers()
					n := newNIC()
					lc := &iwarp.ListenConfig{Transports: n.transports(), PortSpace: &iwarp.PortSpace{}}
					l, other := make(t, lc)
					if device {
						d := iwarp.Dialer{Transports: n.transports(), Timeout: patience, PortSpace: &iwarp.PortSpace{}}
						_, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
						require.Equal(t, "nic", describe(t, s).Transport)
					}
					require.NoError(t, end(l))
					other.serves(t)
					_ = l.Close()
					other.serves(t)
				})
			}
		}
	}
}

// TestFailedHandOver has a device's connection keep its port when the process that got a File of
// the listener has gone without listening.
func TestFailedHandOver(t *testing.T) {
	iwarp.ForgetPeers()
	n := newNIC()
	lc := iwarp.ListenConfig{Transports: n.transports(), PortSpace: &iwarp.PortSpace{}}
	l := listen(t, lc)
	d := iwarp.Dialer{Transports: n.transports(), Timeout: patience, PortSpace: &iwarp.PortSpace{}}
	_, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
	f, err := l.File()
	require.NoError(t, err)
	require.NoError(t, f.Close()) // all that became of the other process
	require.NoError(t, l.Close())
	_, err = net.Listen("tcp", l.Addr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	clear(n.ports)
	again, err := lc.Listen(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err, "it can be listened on again")
	require.NoError(t, again.Close())
	require.NoError(t, s.Close())
	require.NoError(t, reserve(t, nil, "tcp", l.Addr().String()).Release(), "the port goes with the connection")
}

func init() {
	testkit.Processes["hold a socket"] = func() int {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
}

// holds has another process hold what f is until stop is called.
func holds(t *testing.T, f *os.File) (stop func()) {
	c := testkit.Command(t, "hold a socket")
	c.ExtraFiles = []*os.File{f}
	stdin, err := c.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	require.NoError(t, f.Close())
	return func() {
		_ = stdin.Close()
		_ = c.Wait() // the end of the test may have killed it
	}
}

// TestDrainAfterFailedHandOver has Drain take the clients that wait where no other process has the
// socket any more, and leave them where one has.
func TestDrainAfterFailedHandOver(t *testing.T) {
	own := func(t *testing.T, lc iwarp.ListenConfig) (*iwarp.Listener, *os.File) {
		l := listen(t, lc)
		f, err := l.File()
		require.NoError(t, err)
		return l, f
	}
	adopted := func(t *testing.T, lc iwarp.ListenConfig) (*iwarp.Listener, *os.File) {
		before, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer before.Close()
		f, err := before.(*net.TCPListener).File()
		require.NoError(t, err)
		lc.PortSpace = &iwarp.PortSpace{}
		_, err = lc.PortSpace.Adopt(f)
		require.NoError(t, err)
		l, err := lc.Listen(t.Context(), "tcp", before.Addr().String())
		require.NoError(t, err)
		return l.(*iwarp.Listener), f
	}
	for name, tt := range map[string]struct {
		share func(*testing.T, iwarp.ListenConfig) (*iwarp.Listener, *os.File)
		after func(*testing.T, *os.File) // the copy was made
		taken bool
	}{
		"no other process":             {own, func(t *testing.T, f *os.File) { require.NoError(t, f.Close()) }, true},
		"no process before this one":   {adopted, func(t *testing.T, f *os.File) { require.NoError(t, f.Close()) }, true},
		"another process that ended":   {own, func(t *testing.T, f *os.File) { holds(t, f)() }, true},
		"the one before that ended":    {adopted, func(t *testing.T, f *os.File) { holds(t, f)() }, true},
		"another process":              {own, func(t *testing.T, f *os.File) { t.Cleanup(holds(t, f)) }, false},
		"a process before this one":    {adopted, func(t *testing.T, f *os.File) { t.Cleanup(holds(t, f)) }, false},
		"a copy that nobody has taken": {own, func(t *testing.T, f *os.File) { t.Cleanup(func() { _ = f.Close() }) }, false},
		"a copy that was made to block": {own, func(t *testing.T, f *os.File) {
			require.NoError(t, unix.SetNonblock(int(f.Fd()), false))
			require.NoError(t, f.Close())
		}, true},
	} {
		for _, policy := range policies {
			t.Run(name+"/"+policy.String(), func(t *testing.T) {
				l, f := tt.share(t, iwarp.ListenConfig{Offload: policy})
				tt.after(t, f)
				c := dialTCP(t, l)
				_, err := io.WriteString(c, "GET")
				require.NoError(t, err)
				background(t, func() { noError(t, l.Drain(t.Context())) })()
				s := l.Stats()
				require.Equal(t, tt.taken, s.PlainTCP+s.Refused == 1)
				if !tt.taken {
					return
				}
				a, err := l.Accept()
				if policy == iwarp.OffloadRequire {
					require.ErrorIs(t, err, net.ErrClosed)
					return
				}
				require.NoError(t, err)
				defer a.Close()
				_, err = io.ReadFull(a, make([]byte, len("GET")))
				require.NoError(t, err)
				exchange(t, c, a, "hello")
			})
		}
	}
}

// TestFileDoesNotBlock looks at the flag that copies of a descriptor share: without it Accept and
// Close would hang.
func TestFileDoesNotBlock(t *testing.T) {
	l, r := listen(t, iwarp.ListenConfig{}), reserve(t, nil, "tcp", "127.0.0.1:0")
	for name, s := range map[string]interface{ File() (*os.File, error) }{"listener": l, "reservation": r} {
		f, err := s.File()
		require.NoError(t, err)
		defer f.Close()
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0) // as os/exec does
		require.NoError(t, err)
		require.NotZero(t, flags&unix.O_NONBLOCK, name)
	}
}

// TestOtherSideBlocks ends a listener while an Accept stands in the kernel, since another process
// has the shared socket block.
func TestOtherSideBlocks(t *testing.T) {
	ends := map[string]func(*iwarp.Listener) error{
		"close": (*iwarp.Listener).Close,
		"drain": func(l *iwarp.Listener) error { return l.Drain(context.Background()) },
		"drain for a time": func(l *iwarp.Listener) error {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			return l.Drain(ctx)
		},
	}
	shares := map[string]func(*testing.T, iwarp.ListenConfig) (*iwarp.Listener, *os.File){
		"listener": func(t *testing.T, lc iwarp.ListenConfig) (*iwarp.Listener, *os.File) {
			l := listen(t, lc)
			f, err := l.File()
			require.NoError(t, err)
			return l, f
		},
		"reservation": func(t *testing.T, lc iwarp.ListenConfig) (*iwarp.Listener, *os.File) {
			lc.PortSpace = &iwarp.PortSpace{}
			r := reserve(t, lc.PortSpace, "tcp", "127.0.0.1:0")
			f, err := r.File()
			require.NoError(t, err)
			l, err := lc.Listen(t.Context(), "tcp", r.Addr().String())
			require.NoError(t, err)
			return l.(*iwarp.Listener), f
		},
		"adopted reservation": func(t *testing.T, lc iwarp.ListenConfig) (*iwarp.Listener, *os.File) {
			r := reserve(t, &iwarp.PortSpace{}, "tcp", "127.0.0.1:0")
			f, err := r.File()
			require.NoError(t, err)
			lc.PortSpace = &iwarp.PortSpace{}
			_, err = lc.PortSpace.Adopt(f)
			require.NoError(t, err)
			l, err := lc.Listen(t.Context(), "tcp", r.Addr().String())
			require.NoError(t, err)
			return l.(*iwarp.Listener), f
		},
	}
	const calls = 2
	for what, share := range shares {
		for name, end := range ends {
			for _, policy := range policies {
				t.Run(what+"/"+name+"/"+policy.String(), func(t *testing.T) {
					t.Parallel()
					l, f := share(t, iwarp.ListenConfig{Offload: policy})
					defer f.Close()
					require.NoError(t, unix.SetNonblock(int(f.Fd()), false))
					left := make(chan struct{}, calls)
					for range calls {
						go func() {
							defer func() { left <- struct{}{} }()
							for {
								c, err := l.Accept()
								if err != nil {
									return
								}
								_ = c.Close()
							}
						}()
					}
					// The next accept(2) blocks, and an Accept that has taken a client goes on to
					// it.
					_, err := dialTCP(t, l).Write([]byte("hello"))
					require.NoError(t, err)
					eventually(t, func() bool {
						s := l.Stats()
						return s.PlainTCP+s.Refused > 0
					}, "a client that is taken")
					background(t, func() { _ = end(l) })()
					background(t, func() { _ = l.Close() })()
					background(t, func() {
						for range calls - 1 {
							<-left // in the kernel there is no more than one
						}
					})()
					if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
						_ = c.Close() // lets the call in the kernel end
					}
					<-left
				})
			}
		}
	}
}

// TestDrainLeavesCopies has a copy of the descriptor that was made without File, as tableflip does,
// take clients after Drain.
func TestDrainLeavesCopies(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			l := listen(t, iwarp.ListenConfig{Offload: policy})
			rc, err := l.SyscallConn()
			require.NoError(t, err)
			fd := -1
			require.NoError(t, rc.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }))
			require.NoError(t, err)
			f := os.NewFile(uintptr(fd), "copy")
			require.NoError(t, l.Drain(t.Context()))
			require.NoError(t, l.Close())
			other := takeOver(t, f)
			c, err := net.DialTimeout("tcp", l.Addr().String(), patience)
			require.NoError(t, err)
			defer c.Close()
			s, err := other.l.Accept()
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
}
