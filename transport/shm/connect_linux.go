package shm

import (
	"context"

	"golang.org/x/sys/unix"

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

// connect exchanges request and answer and brings q to StateRTS.
func (q *queuePair) connect(ctx context.Context, scope uint32, private []byte) ([]byte, error) {
	in, fd, err := newSegment()
	if err != nil {
		return nil, err
	}
	ask := &greeting{
		kind: request, ird: q.Opts.IRD, ord: q.Opts.ORD, local: q.local, remote: q.remote, scope: scope, private: private,
	}
	var answer *greeting
	theirs := -1
	err = setup.Within(ctx, q.sock, q.cfg.ReplyTimeout, func() (err error) {
		err = say(q.sock, ask, fd)
		_ = unix.Close(fd)
		if err == nil {
			answer, theirs, err = hear(q.sock)
		}
		return err
	})
	out, err := q.agree(answer, theirs, consent, err)
	if err != nil {
		in.close()
		return nil, err
	}
	return answer.private, q.start(in, out, q.Opts.IRD, min(q.Opts.ORD, answer.ird))
}

// agree checks what the peer has said, and maps its memory. It closes fd, if there is one.
func (q *queuePair) agree(g *greeting, fd int, want greetingKind, err error) (*segment, error) {
	defer bury(fd)
	switch {
	case err != nil:
		return nil, err
	case g.kind == refusal && want == consent:
		return nil, &transport.RejectedError{PrivateData: g.private}
	case g.kind != want:
		return nil, errGreeting
	case fd < 0:
		return nil, errNoMemory
	}
	return openSegment(fd)
}
