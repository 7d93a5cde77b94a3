// Package agent runs commands in a virtual machine on behalf of a program on its host, over one TCP
// connection per command. It is for tests on a private network: whoever reaches the server's
// address may run anything.
package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
)

// request is the first message on a connection, from the client.
type request struct {
	Args []string
}

// control is any later message from the client. The end of its stream kills the command.
type control struct {
	Signal int
}

// frame is a message from the server: output of the command, or its end.
type frame struct {
	Fd   int    `json:",omitempty"` // 1 or 2 with Data
	Data []byte `json:",omitempty"`
	Done bool   `json:",omitempty"` // the last frame
	Exit int    `json:",omitempty"` // exit status, -1 for a signal
	Err  string `json:",omitempty"` // why the command did not start or was killed
}

// A Client runs commands through the server at Addr, a TCP address or the path of a Unix socket.
type Client struct {
	Addr string
}

// A Process is a command started by Client.Start.
type Process struct {
	conn net.Conn
	done chan struct{}

	mu     sync.Mutex
	more   *sync.Cond // output has come, or the command has ended
	stdout bytes.Buffer
	stderr bytes.Buffer
	exit   int
	err    error
	ended  bool
}

// Start starts a command. It is killed when ctx ends.
func (c *Client) Start(ctx context.Context, args ...string) (*Process, error) {
	var d net.Dialer
	network := "tcp"
	if filepath.IsAbs(c.Addr) {
		network = "unix"
	}
	conn, err := d.DialContext(ctx, network, c.Addr)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(conn).Encode(request{Args: args}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p := &Process{conn: conn, done: make(chan struct{}), exit: -1}
	p.more = sync.NewCond(&p.mu)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		defer stop()
		p.collect(ctx)
	}()
	return p, nil
}

func (p *Process) collect(ctx context.Context) {
	defer close(p.done)
	defer p.conn.Close()
	dec := json.NewDecoder(p.conn)
	for {
		var f frame
		err := dec.Decode(&f)
		p.mu.Lock()
		switch {
		case err != nil:
			p.err = fmt.Errorf("connection to the virtual machine lost: %w", err)
			if ctx.Err() != nil {
				p.err = context.Cause(ctx)
			}
			p.ended = true
		case f.Fd == 1:
			p.stdout.Write(f.Data)
		case f.Fd == 2:
			p.stderr.Write(f.Data)
		case f.Done:
			p.exit, p.ended = f.Exit, true
			if f.Err != "" {
				p.err = errors.New(f.Err)
			}
		}
		ended := p.ended
		p.more.Broadcast()
		p.mu.Unlock()
		if ended {
			return
		}
	}
}

// Wait waits for the end of the command and returns its exit status. The error says why there is
// none.
func (p *Process) Wait() (exit int, err error) {
	<-p.done
	return p.exit, p.err
}

// Signal sends the signal with the number sig to the command's process group.
func (p *Process) Signal(sig int) error {
	return json.NewEncoder(p.conn).Encode(control{Signal: sig})
}

// Kill ends the command and waits until it is gone.
func (p *Process) Kill() {
	const sigkill = 9
	if p.Signal(sigkill) != nil {
		p.conn.Close()
	}
	<-p.done
}

// Stdout returns what the command has written to its standard output so far.
func (p *Process) Stdout() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String()
}

// Stderr returns what the command has written to its standard error so far.
func (p *Process) Stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// WaitOutput waits until want is in the command's standard output or standard error, or fails when
// the command ends without it.
func (p *Process) WaitOutput(want string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if bytes.Contains(p.stdout.Bytes(), []byte(want)) || bytes.Contains(p.stderr.Bytes(), []byte(want)) {
			return nil
		}
		if p.ended {
			return fmt.Errorf("ended (status %d, %v) without printing %q: %s%s", p.exit, p.err, want, p.stdout.String(), p.stderr.String())
		}
		p.more.Wait()
	}
}
