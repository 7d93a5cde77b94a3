// Iwarpstat lists the connections, listeners and reserved ports of the programs that use
// github.com/rdmanet/iwarp, and says which are offloaded, and why others are not.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/rdmanet/iwarp/cmd/internal/manual"
)

// Exit codes.
const (
	exitFound   = 0
	exitNothing = 1 // nothing was found that was asked for
	exitFailed  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// errNothing ends the program with exitNothing.
var errNothing = errors.New("nothing found")

// run is the program.
func run(args []string, out, errs io.Writer) int {
	cmd := command(out, errs)
	cmd.SetArgs(joinWatch(args))
	switch err := cmd.Execute(); {
	case err == nil:
		return exitFound
	case errors.Is(err, errNothing):
		return exitNothing
	default:
		fmt.Fprintln(errs, "iwarpstat:", err)
		return exitFailed
	}
}

// options are what the flags set.
type options struct {
	all, listening, processes, details, summary, json, quiet bool
	pids                                                     []int
	netns                                                    string
	watch                                                    pace
}

const long = `Iwarpstat lists the connections of all programs that use github.com/rdmanet/iwarp: by which path each
goes, and why it is plain TCP where it is. It reads what these programs keep for it, which they need
not answer for, so that it shows a program that hangs, too, and it asks the kernel about the TCP
connections beneath, and about the connections and listeners by RDMA of all other programs: rping,
rsockets, NFS and the like, which are listed as "rdma/DEVICE".

It shows the programs that you may debug: your own, or with root's rights all of them. How many others
there are is said on standard error.

Conditions choose what is listed, as those of ss(8) do. All that are given must hold; "not" before one
turns it round.

  state STATE      established, write-closed, peer-finished, closing, failed, listening, ...
  path PATH        tcp, soft, rnic, shm, or rdma for programs that do not use the module
  reason TEXT      part of why it is plain TCP, or of what has ended it
  fallback         plain TCP for any other reason than that the program asks for it
  offloaded        past the kernel's TCP
  port, sport, dport PORT
  addr, src, dst ADDRESS, PREFIX or ADDRESS:PORT
  process NAME

PATH is the way that the bytes take: "tcp" is plain TCP, "soft" iWARP in software over the kernel's
TCP, "rnic/DEVICE" an RDMA device, "shm" memory that two programs of one host share. WHY is the reason
for plain TCP, what has ended a connection, or that it is blocked.

After the name of a process that somebody has stopped, as by SIGSTOP, stands "stopped".

The exit code is 0 if something was listed, 1 if there is nothing, and 2 after an error.`

const examples = `  iwarpstat                       all connections
  iwarpstat -p fallback           those that are plain TCP, why, and whose they are
  iwarpstat -l                    listeners and reserved ports
  iwarpstat -i sport :5201        everything about the connections of a port
  iwarpstat -s                    numbers: paths, reasons, times of set-ups
  iwarpstat -q not path tcp       nothing but the exit code: is any connection iWARP?`

func command(out, errs io.Writer) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "iwarpstat [flags] [CONDITION]...", Short: "List iWARP connections, and why others are plain TCP", Long: long, Example: examples,
		Args: cobra.ArbitraryArgs, SilenceUsage: true, SilenceErrors: true, DisableFlagsInUseLine: true,
		ValidArgsFunction: complete,
		RunE:              func(_ *cobra.Command, args []string) error { return o.run(args, out, errs) },
	}
	cmd.SetOut(out)
	cmd.SetErr(errs)
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "list listeners and reserved ports, too")
	f.BoolVarP(&o.listening, "listening", "l", false, "list nothing but listeners and reserved ports")
	f.BoolVarP(&o.processes, "processes", "p", false, "say which process each is of")
	f.BoolVarP(&o.details, "info", "i", false, "say everything about each connection")
	f.BoolVarP(&o.summary, "summary", "s", false, "give numbers instead of lists")
	f.BoolVar(&o.json, "json", false, "write JSON, which has everything, with exact numbers")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "write nothing, for the exit code alone")
	f.IntSliceVar(&o.pids, "pid", nil, "look into the processes with these `numbers` alone")
	f.StringVar(&o.netns, "netns", "", "list what is in the network namespace of this `name`, process or path")
	f.VarP(&o.watch, "watch", "w", "look again each `time`, such as 2 or 500ms, until interrupted")
	f.Lookup("watch").NoOptDefVal = "1s"
	cmd.MarkFlagsMutuallyExclusive("json", "quiet", "watch")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w; see iwarpstat --help", err) })
	cmd.AddCommand(manual.Command(cmd))
	return cmd
}

// complete offers the names of conditions, and values where there are only some.
func complete(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	last := ""
	if len(args) > 0 {
		last = args[len(args)-1]
	}
	switch last {
	case "state":
		return []string{"established", "write-closed", "peer-finished", "closing", "failed", "listening", "draining"}, cobra.ShellCompDirectiveNoFileComp
	case "path":
		return []string{"tcp", "soft", "rnic", "shm", "rdma"}, cobra.ShellCompDirectiveNoFileComp
	}
	if _, ok := conditions[last]; ok {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return append(names(), "fallback", "offloaded", "not"), cobra.ShellCompDirectiveNoFileComp
}

func (o *options) run(args []string, out, errs io.Writer) error {
	f, err := parseFilter(args)
	if err != nil {
		return err
	}
	netns := uint64(0)
	if o.netns != "" {
		if netns, err = netnsOf(o.netns); err != nil {
			return err
		}
	}
	look := func() (*report, error) {
		r, err := collect(o.pids, netns)
		if err == nil {
			f.apply(r)
		}
		return r, err
	}
	if o.watch > 0 {
		return o.live(look, out)
	}
	r, err := look()
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(out, 64<<10) // a table is written cell by cell
	if err := cmp.Or(o.write(r, b), b.Flush()); err != nil {
		return err
	}
	if !o.quiet {
		r.remarks(errs)
	}
	if o.found(r) {
		return nil
	}
	if !o.quiet && !o.json {
		o.explain(r, len(f) > 0, errs)
	}
	return errNothing
}

// found reports whether there is something of what was asked for.
func (o *options) found(r *report) bool {
	listeners := slices.ContainsFunc(r.RDMA, func(v verbs) bool { return v.State == listening })
	connects := slices.ContainsFunc(r.RDMA, func(v verbs) bool { return v.State != listening }) || len(r.Connections) > 0
	rest := len(r.Listeners)+len(r.Ports) > 0 || listeners
	switch {
	case o.listening:
		return rest
	case o.all:
		return rest || connects
	case o.summary:
		return len(r.Processes)+len(r.RDMA) > 0
	}
	return connects
}

func (o *options) write(r *report, out io.Writer) error {
	p := printer{out: out, processes: o.processes, details: o.details, all: o.all, listening: o.listening, now: r.Time}
	switch {
	case o.quiet:
		return nil
	case o.json:
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	case o.summary:
		return p.summary(r)
	}
	return p.print(r)
}
