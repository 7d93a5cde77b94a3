//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp"
)

// handedOver is set for a process that takes over: to the number of sockets that it has got, from
// descriptor 3 on. To the descriptor after them it writes a byte once it listens.
const handedOver = "IWARP_GATEWAY_SOCKETS"

// takeOverTime is what a new process has to listen.
const takeOverTime = 30 * time.Second

func notifyHangup(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }

// inherit takes the sockets of the process before, and those of systemd. Once they are listened on,
// ready tells that process.
func inherit() (passed []*iwarp.Reservation, ready func() error, err error) {
	ready = func() error { return nil }
	if text, ok := os.LookupEnv(handedOver); ok {
		_ = os.Unsetenv(handedOver)
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 1<<16 {
			return nil, nil, fmt.Errorf("%s is %q, not a number of sockets", handedOver, text)
		}
		for i := range n {
			f := os.NewFile(uintptr(3+i), "handed over")
			r, err := iwarp.DefaultPortSpace.Adopt(f)
			_ = f.Close() // Adopt copies it
			if err != nil {
				return passed, nil, err
			}
			passed = append(passed, r)
		}
		pipe := os.NewFile(uintptr(3+n), "ready")
		syscall.CloseOnExec(3 + n)
		ready = func() error {
			_, err := pipe.Write([]byte{1})
			return errors.Join(err, pipe.Close())
		}
	}
	inherited, err := iwarp.DefaultPortSpace.Inherit()
	return append(passed, inherited...), ready, err
}

// handOver starts the program anew with the listening sockets, and returns once that listens.
func (g *gateway) handOver() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	listeners := g.listeners
	if g.admin != nil {
		listeners = append(slices.Clone(listeners), g.admin)
	}
	c := exec.Command(program, os.Args[1:]...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.Env = append(os.Environ(), handedOver+"="+strconv.Itoa(len(listeners)))
	defer func() {
		for _, f := range c.ExtraFiles {
			_ = f.Close()
		}
	}()
	for _, l := range listeners {
		f, err := l.File()
		if err != nil {
			return err
		}
		c.ExtraFiles = append(c.ExtraFiles, f)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	c.ExtraFiles = append(c.ExtraFiles, theirs)
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	_ = theirs.Close() // so that its end is seen
	_ = ready.SetReadDeadline(time.Now().Add(takeOverTime))
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		_ = c.Process.Kill()
		return fmt.Errorf("new process does not listen: %w", errors.Join(err, <-ended))
	}
	g.log.Info("another process has taken over", "pid", c.Process.Pid)
	return nil
}
