//go:build linux

// Deadlines has connections between two processes, by the policy in IWARP_OFFLOAD, on which bytes
// go there and back, and others on which calls do nothing but wait for their deadlines. Meanwhile
// it sets the clock of the system to and fro (-step), or has either process stopped for a while
// (-stop). No byte may be lost, and no deadline be early; how late they are, it says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

// What a connection is for is its first byte.
const (
	echoed = 'e'
	silent = 's' // the peer neither reads nor writes
	stop   = 'p' // the peer stops this process for a while
)

const (
	patience = 500 * time.Millisecond // the deadline of each call
	stopped  = 2 * time.Second
	chunk    = 256 << 10
)

// over is what connections may be made over.
var over = []transport.Transport{soft.New(nil)}

func main() {
	log.SetFlags(0)
	log.SetPrefix("deadlines: ")
	serve := flag.Bool("serve", false, "be the other process")
	step := flag.Duration("step", 0, "set the clock of the system to and fro by this `time`")
	shared := flag.Bool("shm", false, "by shared memory in place of software iWARP, where the policy is for any")
	stops := flag.Bool("stop", false, "stop one process, then the other")
	length := flag.Duration("for", 8*time.Second, "how `long`")
	flag.Parse()
	if *shared {
		over = []transport.Transport{shm.New(nil)}
	}
	if *serve {
		log.Fatal(server())
	}
	if err := run(*step, *stops, *length); err != nil {
		log.Fatal(err)
	}
}

// server is the other process. It ends with its input.
func server() error {
	lc := iwarp.ListenConfig{Transports: over}
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go answer(c)
	}
}

func answer(c net.Conn) {
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil {
		log.Fatal(err)
	}
	switch b[0] {
	case echoed:
		if _, err := io.CopyBuffer(c, struct{ io.Reader }{c}, make([]byte, chunk)); err != nil {
			log.Fatal(err)
		}
		_ = c.Close()
	case stop:
		parent := os.Getppid()
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			_ = unix.Kill(parent, unix.SIGSTOP)
			time.Sleep(stopped)
			_ = unix.Kill(parent, unix.SIGCONT)
			if _, err := c.Write(b); err != nil {
				log.Fatal(err)
			}
		}
	}
}

// A tally is what all connections add to.
type tally struct {
	mu          sync.Mutex
	n           int // deadlines that passed
	bytes       int64
	early, late time.Duration // the most
	timers      time.Duration // that a timer was late, for comparison

	pause atomic.Int64 // odd while this process may be stopped, when all is late
}

// timed has a call wait for its deadline, or less.
func (t *tally) timed(set func(time.Time) error, call func() (int, error)) (int, error) {
	before := t.pause.Load()
	deadline := time.Now().Add(patience)
	if err := set(deadline); err != nil {
		return 0, err
	}
	n, err := call()
	late := time.Since(deadline)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	t.early = max(t.early, -late)
	if before%2 == 0 && before == t.pause.Load() {
		t.late = max(t.late, late)
	}
	return n, nil
}

// waits has a call wait for its deadline, which nothing else ends, again and again.
func (t *tally) waits(until time.Time, set func(time.Time) error, call func() (int, error)) error {
	for time.Now().Before(until) {
		if n, err := t.timed(set, call); n != 0 || err != nil {
			return fmt.Errorf("where only the deadline could end it: %d bytes, %w", n, err)
		}
	}
	return nil
}

// echo sends and receives the same bytes, and goes on after each deadline where it was.
func (t *tally) echo(until time.Time, c net.Conn) error {
	out, in := make([]byte, chunk), make([]byte, chunk)
	for round := 0; time.Now().Before(until); round++ {
		for i := range out {
			out[i] = byte(i + round)
		}
		failed := make(chan error, 1)
		go func() {
			for at := 0; at < len(out); {
				n, err := t.timed(c.SetWriteDeadline, func() (int, error) { return c.Write(out[at:]) })
				if at += n; err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
		for at := 0; at < len(in); {
			n, err := t.timed(c.SetReadDeadline, func() (int, error) { return c.Read(in[at:]) })
			if at += n; err != nil {
				return err
			}
		}
		if err := <-failed; err != nil {
			return err
		}
		if string(in) != string(out) {
			return fmt.Errorf("wrong bytes in round %d", round)
		}
		t.mu.Lock()
		t.bytes += int64(len(in))
		t.mu.Unlock()
	}
	return nil
}

// compare has timers of package time beside the deadlines.
func (t *tally) compare(until time.Time) {
	for time.Now().Before(until) {
		before := t.pause.Load()
		at := time.Now().Add(patience)
		time.Sleep(patience)
		if before%2 == 0 && before == t.pause.Load() {
			t.timers = max(t.timers, time.Since(at))
		}
	}
}

func run(step time.Duration, stops bool, length time.Duration) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	other := exec.Command(exe, append(os.Args[1:], "-serve")...)
	other.Stderr = os.Stderr
	in, err := other.StdinPipe()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := other.StdoutPipe()
	if err != nil {
		return err
	}
	if err := other.Start(); err != nil {
		return err
	}
	var addr string
	if _, err := fmt.Fscan(out, &addr); err != nil {
		return err
	}
	dial := func(kind byte) (net.Conn, error) {
		c, err := (&iwarp.Dialer{Transports: over}).Dial("tcp", addr)
		if err == nil {
			_, err = c.Write([]byte{kind})
		}
		return c, err
	}
	var t tally
	until := time.Now().Add(length)
	var all sync.WaitGroup
	failed := make(chan error, 100)
	start := func(kind byte, what string, f func(net.Conn) error) error {
		c, err := dial(kind)
		if err != nil {
			return err
		}
		if info, _ := iwarp.Describe(c); what == "echo" {
			log.Printf("path: %s", info.Transport)
		}
		all.Go(func() {
			if err := f(c); err != nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
			_ = c.Close()
		})
		return nil
	}
	buf := make([]byte, chunk)
	for range 2 {
		err := errors.Join(
			start(echoed, "echo", func(c net.Conn) error { return t.echo(until, c) }),
			start(silent, "read", func(c net.Conn) error {
				b := make([]byte, 1)
				return t.waits(until, c.SetReadDeadline, func() (int, error) { return c.Read(b) })
			}),
			start(silent, "write", func(c net.Conn) error {
				for n := 1; n > 0; { // fill it
					_ = c.SetWriteDeadline(time.Now().Add(patience))
					n, _ = c.Write(buf)
				}
				return t.waits(until, c.SetWriteDeadline, func() (int, error) { return c.Write(buf) })
			}))
		if err != nil {
			return err
		}
	}
	all.Go(func() { t.compare(until) })
	if step != 0 {
		all.Go(func() { failed <- setClock(until, step) })
	}
	if stops {
		c, err := dial(stop)
		if err != nil {
			return err
		}
		all.Go(func() { failed <- t.suspend(until, c, other.Process.Pid) })
	}
	all.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	fmt.Printf("%d bytes there and back, %d deadlines, at most %v early and %v late, timers %v late\n", t.bytes, t.n, t.early, t.late.Round(time.Millisecond), t.timers.Round(time.Millisecond))
	if t.bytes == 0 || t.n == 0 {
		return errors.New("nothing was tried")
	}
	if t.early > 0 {
		return errors.New("a deadline was early")
	}
	return nil
}

// setClock sets it forth and back, and leaves it as it was.
func setClock(until time.Time, step time.Duration) error {
	for i := 0; time.Now().Before(until) || i%4 != 0; i++ {
		by := step
		if i%4 == 1 || i%4 == 2 {
			by = -step
		}
		if err := moveClock(by); err != nil {
			return err
		}
		time.Sleep(patience + patience/2)
	}
	return nil
}

func moveClock(by time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return os.NewSyscallError("clock_gettime", err)
	}
	now.Sec += int64(by / time.Second)
	return os.NewSyscallError("clock_settime", unix.ClockSettime(unix.CLOCK_REALTIME, &now))
}

// suspend stops the other process and then this one, by turns.
func (t *tally) suspend(until time.Time, c net.Conn, other int) error {
	for time.Now().Before(until) {
		if err := unix.Kill(other, unix.SIGSTOP); err != nil {
			return err
		}
		time.Sleep(stopped)
		if err := unix.Kill(other, unix.SIGCONT); err != nil {
			return err
		}
		t.pause.Add(1)
		_, err := c.Write([]byte{stop})
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		if err != nil {
			return err
		}
		t.pause.Add(1)
	}
	return c.Close()
}
