package agent

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
)

// Serve runs the commands that clients of ln ask for. It returns when Accept fails.
func Serve(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go serve(conn)
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	dec := json.NewDecoder(conn)
	var req request
	if dec.Decode(&req) != nil || len(req.Args) == 0 {
		return
	}
	out := &frames{enc: json.NewEncoder(conn)}
	cmd := exec.Command(req.Args[0], req.Args[1:]...)
	// In a group of its own, so that a signal reaches its children too, and not without this
	// program.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = stream{1, out}, stream{2, out}
	if err := cmd.Start(); err != nil {
		out.send(frame{Done: true, Exit: -1, Err: err.Error()})
		return
	}
	var reaped atomic.Bool
	kill := func(sig syscall.Signal) {
		if !reaped.Load() {
			_ = syscall.Kill(-cmd.Process.Pid, sig)
		}
	}
	go func() {
		for {
			var c control
			if err := dec.Decode(&c); err != nil {
				kill(syscall.SIGKILL)
				return
			}
			kill(syscall.Signal(c.Signal))
		}
	}()
	f := frame{Done: true}
	err := cmd.Wait()
	reaped.Store(true)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		f.Exit = exit.ExitCode()
		if f.Exit < 0 {
			f.Err = exit.Error()
		}
	} else if err != nil {
		f.Exit, f.Err = -1, err.Error()
	}
	out.send(f)
}

// frames sends whole frames from several goroutines.
type frames struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (w *frames) send(f frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.enc.Encode(f)
}

// stream is one of a command's outputs.
type stream struct {
	fd  int
	out *frames
}

var _ io.Writer = stream{}

func (s stream) Write(p []byte) (int, error) {
	if err := s.out.send(frame{Fd: s.fd, Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}
