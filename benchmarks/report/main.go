// Command report compares every path with plain TCP, slice by slice, and prints the ratios as
// Markdown.
//
//	go run ./benchmarks/report
//	go run ./benchmarks/report -peer self -time 1m
//	go run ./benchmarks/report -check
//
// The load of a machine changes from second to second, so each slice of a path runs between two
// slices of plain TCP and is divided by their mean. The median of these ratios over all rounds is
// reported with its quartiles. Plain TCP against itself, by the same procedure, is the control:
// what it shows apart from 1.00 is noise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

type config struct {
	time   time.Duration
	rounds int
	peer   string
	paths  *regexp.Regexp
	work   *regexp.Regexp
	check  bool
}

var errFloor = errors.New("a floor was missed, see above")

func main() {
	lab.MaybePeer()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out, log io.Writer) error {
	var c config
	var paths, work string
	fs := flag.NewFlagSet("report", flag.ContinueOnError)
	fs.SetOutput(log)
	fs.DurationVar(&c.time, "time", 150*time.Second, "how long to measure in all")
	fs.IntVar(&c.rounds, "rounds", 13, "slices of each path and measurement")
	fs.StringVar(&c.peer, "peer", "process", "where the other end runs: in a `process` of its own, or self")
	fs.StringVar(&paths, "paths", "", "measure only paths whose name matches this `regexp`")
	fs.StringVar(&work, "work", "", "run only measurements whose name matches this `regexp`, as in \"p50 64B|set-up\"")
	fs.BoolVar(&c.check, "check", false, "fail if a floor is missed and the control shows that the machine was quiet enough to tell")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var err error
	if c.paths, err = regexp.Compile(paths); err != nil {
		return err
	}
	if c.work, err = regexp.Compile(work); err != nil {
		return err
	}
	switch {
	case c.rounds < 1:
		return errors.New("-rounds must be at least 1")
	case c.peer != "process" && c.peer != "self":
		return errors.New("-peer must be process or self")
	}
	return report(ctx, c, out, log)
}

func report(ctx context.Context, c config, out, log io.Writer) error {
	reference, variants := choosePaths(c.paths)
	var works []workload
	for _, w := range workloads() {
		if c.work.MatchString(w.name()) {
			works = append(works, w)
		}
	}
	if len(works) == 0 {
		return errors.New("-work matches no measurement")
	}

	peer, err := startPeer(ctx, c.peer, append([]lab.Path{reference}, variants...))
	if err != nil {
		return err
	}
	defer peer.Close()
	m, err := newMatrix(ctx, peer, reference, variants, works)
	if err != nil {
		return err
	}
	defer m.close()

	fmt.Fprintf(log, "measuring %d paths for about %v ...\n", len(variants), c.time)
	start := time.Now()
	if err := m.run(ctx, c.rounds, c.time, log); err != nil {
		return err
	}
	header(out, c, time.Since(start))
	printTables(out, m)
	held := printFloors(out, m)
	if c.check && !held {
		return errFloor
	}
	return nil
}

// choosePaths returns the reference, and the control and all other paths that re matches.
func choosePaths(re *regexp.Regexp) (reference lab.Path, variants []lab.Path) {
	for _, p := range lab.Paths() {
		switch {
		case p.Name == lab.TCP:
			reference = p
		case p.Name == lab.TCPAgain || re.MatchString(p.Name):
			variants = append(variants, p)
		}
	}
	return reference, variants
}

func startPeer(ctx context.Context, where string, paths []lab.Path) (*lab.Peer, error) {
	if where == "self" {
		return lab.StartLocal(ctx, paths)
	}
	return lab.StartProcess(ctx)
}
