// Iwarp-portguard holds TCP ports of the kernel for the RDMA programs of a host: for each port that
// rdma_cm has given to one of them, on a device whose ports the kernel's TCP knows nothing of.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdmanet/iwarp/cmd/internal/manual"
)

// Exit codes.
const (
	exitFine     = 0
	exitConflict = 1
	exitFailed   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, new(source).look)
	stop()
	os.Exit(code)
}

// errConflict ends the program with exitConflict.
var errConflict = errors.New("there are conflicts")

// run is the program.
func run(ctx context.Context, args []string, out, errs io.Writer, ask func() (view, error)) int {
	cmd := command(out, errs, ask)
	cmd.SetArgs(args)
	switch err := cmd.ExecuteContext(ctx); {
	case err == nil:
		return exitFine
	case errors.Is(err, errConflict):
		return exitConflict
	default:
		fmt.Fprintln(errs, program+":", err)
		return exitFailed
	}
}

// options are what the flags set.
type options struct {
	check, json, verbose bool
	interval             time.Duration
	max                  int
	metrics              string
}

const long = `Iwarp-portguard makes the TCP ports of the kernel and the ports of RDMA programs one space. The connection
manager of RDMA, rdma_cm, gives programs such as rping, rsockets or NFS a port without a look at TCP, and
TCP knows nothing of it: on devices with a port space of their own two programs get the same port.

This program looks at the connection manager's ids each --interval, by netlink, and has a socket of the
kernel bound to the port of each that listens or is connected, until the id is gone for two looks. Another
program that wants the port for TCP gets "address already in use". It does not listen: clients of TCP are
refused, as if nobody had the port. Drivers that have sockets of the kernel for their ports (siw, erdma),
and programs that hold their ports by themselves (those of github.com/rdmanet/iwarp) are left alone.

Between rdma_cm's giving a port and the next look others can get it: --interval, and the time of a look.
What was there first stays: it is reported as a conflict, and tried again until the port is free. A program
of RDMA is never kept from a port, as rdma_cm asks nobody.

It guards the network namespace that it runs in, and the ids of processes in its PID namespace. It needs no
privilege, but CAP_NET_BIND_SERVICE for ports below 1024, and CAP_SYS_PTRACE to tell a socket of an RDMA
program itself from one of another program of the same user.

The exit code is 0, or with --check 1 if there are conflicts, and 2 after an error.`

const examples = `  iwarp-portguard                            hold ports until interrupted
  iwarp-portguard --check                    list the ports, and who is in the way
  iwarp-portguard --metrics 127.0.0.1:9465   with metrics for Prometheus at /metrics`

func command(out, errs io.Writer, ask func() (view, error)) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: program + " [flags]", Short: "Hold TCP ports for RDMA programs", Long: long, Example: examples,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), out, errs, ask) },
	}
	cmd.SetOut(out)
	cmd.SetErr(errs)
	f := cmd.Flags()
	f.BoolVar(&o.check, "check", false, "look once, list the ports, and give them back")
	f.BoolVar(&o.json, "json", false, "log in JSON")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log each port that is held or given back, too")
	f.DurationVar(&o.interval, "interval", 100*time.Millisecond, "`time` between two looks, at least 10ms; up to a second where they would take more than a tenth of a processor")
	f.IntVar(&o.max, "max", 16384, "`number` of ports to hold at most, each of which takes a descriptor")
	f.StringVar(&o.metrics, "metrics", "", "serve metrics on this `address`: host:port, or unix:PATH")
	cmd.MarkFlagsMutuallyExclusive("check", "metrics")
	cmd.AddCommand(manual.Command(cmd))
	return cmd
}

func (o *options) run(ctx context.Context, out, errs io.Writer, ask func() (view, error)) error {
	if o.interval < 10*time.Millisecond || o.max < 1 {
		return errors.New("--interval must be 10ms at least, and --max 1")
	}
	level := slog.LevelInfo
	switch {
	case o.check:
		level = slog.LevelError + 1 // the list says it all
	case o.verbose:
		level = slog.LevelDebug
	}
	var h slog.Handler = slog.NewTextHandler(errs, &slog.HandlerOptions{Level: level})
	if o.json {
		h = slog.NewJSONHandler(errs, &slog.HandlerOptions{Level: level})
	}
	g := newGuard(ask, o.max, slog.New(h))
	defer g.close()
	if o.check {
		return o.once(ctx, g, out)
	}
	return o.watch(ctx, g)
}

// once is --check.
func (o *options) once(ctx context.Context, g *guard, out io.Writer) error {
	if err := g.look(ctx); err != nil {
		return err
	}
	if err := g.print(out); err != nil {
		return err
	}
	var err error
	for _, t := range g.troubles {
		switch t.reason {
		case conflict:
			return errConflict
		case permission, limit, failed:
			err = errors.New("some ports could not be looked into")
		}
	}
	return err
}
