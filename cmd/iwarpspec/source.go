package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

func nothing() {}

// dialling makes connections to a listener.
func dialling(address string) func(time.Time) (*net.TCPConn, func(), error) {
	return func(deadline time.Time) (*net.TCPConn, func(), error) {
		c, err := (&net.Dialer{Deadline: deadline}).Dial("tcp", address)
		if err != nil {
			return nil, nil, err
		}
		return c.(*net.TCPConn), nothing, nil
	}
}

// listen takes connections from initiators, each of which command starts unless it is empty.
func (s *source) listen(address, command string, errs io.Writer) error {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return err
	}
	l, err := net.ListenTCP("tcp", a)
	if err != nil {
		return err
	}
	s.close = func() { _ = l.Close() }
	if command == "" {
		fmt.Fprintln(errs, "iwarpspec: listening on", l.Addr())
	}
	s.connect = func(deadline time.Time) (*net.TCPConn, func(), error) {
		if err := l.SetDeadline(deadline); err != nil {
			return nil, nil, err
		}
		end, err := start(command, l.Addr().String(), errs)
		if err != nil {
			return nil, nil, err
		}
		c, err := l.AcceptTCP()
		if err != nil {
			end()
			return nil, nil, fmt.Errorf("nothing connects: %w", err)
		}
		return c, func() {
			_ = c.Close() // before the initiator ends, so that it can see why
			end()
			if command != "" {
				drain(l)
			}
		}, nil
	}
	return nil
}

// start runs the command of an initiator. What it returns ends it.
func start(command, address string, errs io.Writer) (end func(), err error) {
	if command == "" {
		return nothing, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "sh", "-c", "exec "+command)
	c.Env = append(os.Environ(), "ADDRESS="+address)
	c.Stderr, c.WaitDelay = errs, time.Second
	if err := c.Start(); err != nil {
		cancel()
		return nil, err
	}
	return func() {
		cancel()
		_ = c.Wait() // whatever it makes of what it has met
	}, nil
}

// drain closes the connections of an initiator that has tried again.
func drain(l *net.TCPListener) {
	for {
		if err := l.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return
		}
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

// dialOnce is the initiator of this module: a stream that sends a byte.
func (o *options) dialOnce() error {
	ctx, cancel := context.WithTimeout(context.Background(), o.wait)
	defer cancel()
	d := &iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{soft.New(&soft.Config{Revision: o.revision})}}
	c, err := d.DialContext(ctx, "tcp", o.address)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}
