package bound

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/sockdiag"
)

const (
	// claimTries is how often a socket that contends for a port starts over after it has met others.
	claimTries = 4
	// claimPatience is how long it waits for others to give way. It is shorter than listenPatience.
	claimPatience = 10 * time.Millisecond
	claimPoll     = 100 * time.Microsecond
	// courtesy is how long it allows a holder that cannot be seen to get from setting the option to
	// listening, which takes microseconds.
	courtesy = 2 * time.Millisecond
	// listenPatience is how long a holder tries to listen while a contender is in the way.
	listenPatience = 100 * time.Millisecond
)

// claim binds without SO_REUSEADDR, which no two sockets can do. Where connections in TIME_WAIT or
// of an earlier listener prevent that, it binds with the option. Then two could get in at the same
// time, and the kernel is made to decide between them; see contend.
func (s *Socket) claim(ctx context.Context, addr *net.TCPAddr, control Control) error {
	s.over, s.mayOver = false, addr.Port != 0
	err := s.open(addr, control, false)
	s.mayOver = false
	if err != nil || !s.over {
		return err
	}
	for try := range claimTries {
		if try > 0 {
			if err := s.open(addr, control, true); err != nil {
				return err
			}
		}
		if s.shares {
			return nil
		}
		if err = s.contend(ctx); err == nil {
			s.makeKnown()
			return nil
		}
		_ = s.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		if werr := pause(ctx, rand.N(claimPoll)); werr != nil {
			return werr
		}
	}
	return err
}

// contend makes the socket, which is bound with SO_REUSEADDR, the only one of its port, or fails
// with EADDRINUSE. Of several sockets that are bound like that, the kernel lets one listen, whoever
// made them; the others go. Once it is alone the option is cleared, and from then on nobody else
// can bind; then it stops listening. A holder that has the option for a moment, because it is about
// to listen, stays: then this socket goes. A holder that cannot be seen has had the time to listen.
// After an error the socket must be closed.
func (s *Socket) contend(ctx context.Context) error {
	rc, err := s.f.SyscallConn()
	if err != nil {
		return err
	}
	seen := sockdiag.BoundVisible()
	if !seen {
		if err := pause(ctx, courtesy); err != nil {
			return err
		}
	}
	hear := s.deafen(rc)
	if err := do(rc, "listen", func(fd int) error { return unix.Listen(fd, 0) }); err != nil {
		return err
	}
	if seen {
		if err := s.awaitAlone(ctx); err != nil {
			return err
		}
	}
	err = s.unlisten(rc)
	hear()
	return err
}

// awaitAlone waits until no other socket is seen in the place of this one.
func (s *Socket) awaitAlone(ctx context.Context) error {
	for limit := time.Now().Add(claimPatience); ; {
		others, err := s.others(sockdiag.QueryUnconnected)
		switch {
		case err != nil:
			return fmt.Errorf("%w: who else has the port cannot be looked up: %w", ErrTaken, err)
		case len(others) == 0:
			return nil
		case time.Now().After(limit):
			return ErrTaken
		}
		if err := pause(ctx, claimPoll); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return neterr.OfContext(ctx.Err())
	}
}

// deafen makes the kernel drop what comes to the socket until hear is called, so that no client
// gets far enough to be reset. A socket that has a filter of its user's is left as it is.
func (s *Socket) deafen(rc syscall.RawConn) (hear func()) {
	done := false
	_ = rc.Control(func(fd uintptr) {
		// SO_GET_FILTER has the number of SO_ATTACH_FILTER.
		if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER); err != nil || n != 0 {
			return
		}
		drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
		done = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop}) == nil
	})
	return func() {
		if done {
			_ = s.set(rc, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		}
	}
}

// listenOverRemains makes the socket listen although connections in TIME_WAIT have the port, which
// let only a socket listen that already has the option. A contender for the port may get in between
// and listen before it sees that the port is held. The contender gives way; if somebody else
// listens, the port is lost.
func (s *Socket) listenOverRemains(rc syscall.RawConn) error {
	for limit := time.Now().Add(listenPatience); ; {
		if err := s.reuse(true); err != nil {
			return err
		}
		err := do(rc, "listen", func(fd int) error { return unix.Listen(fd, maxBacklog) })
		if err == nil {
			return nil
		}
		if cerr := s.reuse(false); cerr != nil {
			return LostError{cerr}
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		if time.Now().After(limit) {
			return LostError{err}
		}
		_ = pause(context.Background(), claimPoll)
	}
}
