package shm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netns"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/setup"
)

type connector struct {
	q     *queuePair
	scope uint32
}

func (c *connector) QueuePair() transport.QueuePair { return c.q }

// Connect implements transport.Connector.
func (c *connector) Connect(ctx context.Context, private []byte) ([]byte, error) {
	answer, err := c.q.connect(ctx, c.scope, private)
	if err != nil {
		_ = c.q.Close()
		return nil, handshakeError(err)
	}
	return answer, nil
}

func (c *connector) Close() error {
	if c.q.Healthy() {
		return nil
	}
	return c.q.Close()
}

// connectTries bounds how often a service is asked that leaves its place to another process, with
// pauses between that begin with connectPause and become four times as long each time.
const (
	connectTries = 4
	connectPause = time.Millisecond
)

// errAgain means that a service is about to leave, or lacks what it needs for a connection.
var errAgain = fmt.Errorf("%w: nobody there takes connections through shared memory at the moment", transport.ErrNoRoute)

// errPort means that the server still has a connection from the same address and port.
var errPort = os.NewSyscallError("connect", syscall.EADDRINUSE)

// connect exchanges request and answer and brings q to StateRTS.
func (q *queuePair) connect(ctx context.Context, scope uint32, private []byte) (answer []byte, err error) {
	for try := 1; ; try++ {
		var kept bool
		answer, kept, err = q.ask(ctx, scope, private)
		switch {
		case err == nil, ctx.Err() != nil:
			return answer, err
		case kept && isMoving(err): // nobody may have heard that, or the link alone is of no use
			try = 0
		case err == errPort && q.holdsPort && try < connectTries:
			if err := q.t.room.spare(q.holdPort); err != nil {
				return nil, err
			}
		case try == connectTries, !isMoving(err):
			return answer, err
		case !sleep(ctx, connectPause<<(2*(try-1))):
			return nil, ctx.Err()
		}
		m, merr := q.t.meet(ctx, q.local.Addr(), site{netns.Current(), q.remote})
		if merr != nil {
			return nil, merr
		}
		if err := q.reconnect(m.c); err != nil {
			return nil, err
		}
	}
}

// isMoving reports whether err is what a client may get from a process that leaves its place.
func isMoving(err error) bool {
	return err == errAgain || err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// ask asks once, and reports whether it was on a link.
func (q *queuePair) ask(ctx context.Context, scope uint32, private []byte) (_ []byte, kept bool, err error) {
	in, out, fd, err := q.memoryToAsk()
	if err != nil {
		return nil, false, err
	}
	listen := hear
	if kept = out != nil; kept {
		listen = hearNext
	}
	ask := &greeting{
		kind: request, ird: int(q.Opts.IRD), ord: int(q.Opts.ORD), local: q.local, remote: q.remote, scope: scope, private: private,
	}
	var answer *greeting
	theirs := -1
	err = setup.Within(ctx, q.sock, q.t.cfg.ReplyTimeout, func() (err error) {
		err = say(q.sock, ask, fd)
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		if err == nil {
			answer, theirs, err = listen(q.sock)
		}
		return err
	})
	out, err = q.agree(answer, theirs, consent, out, err)
	if err != nil {
		in.close()
		return nil, kept, err
	}
	q.leads = true
	return answer.private, kept, q.start(in, out, int(q.Opts.IRD), min(int(q.Opts.ORD), answer.ird))
}

// memoryToAsk returns the memory of this end, and its descriptor if it is new. Otherwise out is the
// peer's.
func (q *queuePair) memoryToAsk() (in, out *segment, fd int, err error) {
	if k := q.takeKept(); k != nil {
		q.wide = k.wide
		return k.in, k.out, -1, nil
	}
	err = q.t.room.spare(func() error {
		in, fd, err = newSegment(&q.t.memory)
		return err
	})
	return in, nil, fd, err
}

// reconnect makes c the socket to the peer, in place of one that nobody has answered on.
func (q *queuePair) reconnect(c *net.UnixConn) error {
	q.Mu.Lock()
	err := q.Ended()
	old := q.sock
	if err == nil {
		err = q.use(c)
	}
	q.Mu.Unlock()
	if err != nil {
		old = c
	}
	hangUp(old)
	return err
}

// agree checks what the peer has said, and maps its memory, unless that is kept. It closes fd, if
// there is one, and after an error kept.
func (q *queuePair) agree(g *greeting, fd int, want greetingKind, kept *segment, err error) (*segment, error) {
	switch {
	case err != nil:
	case g.kind == refusal && want == consent:
		err = &transport.RejectedError{PrivateData: g.private}
	case g.kind == again && want == consent && len(g.private) > 0:
		err = errPort
	case g.kind == again && want == consent:
		err = errAgain
	case g.kind != want:
		err = errGreeting
	case fd < 0 && kept == nil:
		err = errNoMemory
	case fd >= 0 && kept != nil:
		err = errTooMany
	}
	if err != nil {
		bury(fd)
		kept.close()
		return nil, err
	}
	if kept != nil {
		return kept, nil
	}
	s, err := openSegment(fd)
	if err != nil {
		bury(fd)
		return nil, err
	}
	_ = unix.Close(fd) // of memory, which takes no time
	return s, nil
}
