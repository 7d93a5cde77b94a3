// Command report compares every way to carry a byte stream with plain TCP, and prints a table of
// ratios, with what the bars are and which of them are reached.
//
//	go run -C benchmarks/report .                      # both ends on this host, in two processes
//	go run -C benchmarks/report . -quick               # every row once: shows that it works, no more
//	go run -C benchmarks/report . -docs ../..          # has README.md and docs/performance.md say so
//	go run -C benchmarks/report . -listen :7000        # two hosts: the one
//	go run -C benchmarks/report . -connect server:7000 # and the other
//
// It also writes report.md, report.json, report.html with charts, and bench.txt for benchstat:
//
//	benchstat -filter '.name:PingPong .unit:p50-ns' -col /transport,/crc,/poll results/bench.txt
//
// The load of a machine changes from second to second, so each slice of a path runs between two
// slices of plain TCP and is divided by their mean. The median of these ratios over all rounds is
// reported with its confidence interval. Plain TCP against itself, by the same procedure, is the
// control: where it is not close to 1, the results beside it are marked as not usable.
//
// With -listen anybody who can reach the ports can make this host work and send.
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
	"slices"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

type config struct {
	plan
	quick   bool
	listen  string
	connect string
	out     string
	docs    string
	check   bool
	paths   *regexp.Regexp
	work    *regexp.Regexp
}

func main() {
	lab.MaybePeer(services()...)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func parse(args []string, log io.Writer) (c config, err error) {
	fs := flag.NewFlagSet("report", flag.ContinueOnError)
	fs.SetOutput(log)
	fs.DurationVar(&c.time, "time", 6*time.Minute, "how long to measure in all; idle connections come on top")
	fs.IntVar(&c.rounds, "rounds", 13, "slices of each path and measurement")
	fs.BoolVar(&c.quick, "quick", false, "run every row once, in seconds; the figures mean nothing")
	fs.StringVar(&c.listen, "listen", "", "be the other end of -connect, on this `address` and the ports that follow")
	fs.StringVar(&c.connect, "connect", "", "measure towards the host that listens on this `address`")
	fs.StringVar(&c.out, "out", "results", "`folder` for report.md, report.json, report.html and bench.txt; empty for none")
	fs.StringVar(&c.docs, "docs", "", "write the tables into README.md and docs/performance.md below this `folder`")
	fs.BoolVar(&c.check, "check", false, "fail if a bar is missed and the control shows that the machine was quiet enough to tell")
	paths := fs.String("paths", "", "measure only paths whose name matches this `regexp`, as in \"crc=on\"")
	work := fs.String("work", "", "run only measurements whose name matches this `regexp`, as in \"PingPong|SetUp\"")
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if c.paths, err = regexp.Compile(*paths); err != nil {
		return c, err
	}
	if c.work, err = regexp.Compile(*work); err != nil {
		return c, err
	}
	if c.quick {
		c.plan = plan{time: 3 * time.Second, rounds: 1}
	}
	switch {
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q; see -help", fs.Arg(0))
	case c.rounds < 1 || c.time <= 0:
		err = errors.New("-rounds and -time must be more than 0")
	case c.listen != "" && c.connect != "":
		err = errors.New("-listen and -connect are for two hosts")
	}
	return c, err
}

func command(ctx context.Context, args []string, out, log io.Writer) error {
	c, err := parse(args, log)
	if err != nil {
		return err
	}
	if c.listen != "" {
		return listen(ctx, c.listen, log)
	}
	r, err := run(ctx, c, log)
	if err != nil {
		return err
	}
	r.markdown(out)
	if err := r.write(c.out); err != nil {
		return err
	}
	if c.docs != "" {
		if err := r.document(c.docs); err != nil {
			return err
		}
	}
	return r.failure(c.check)
}

// failure says what has gone wrong though there is a report.
func (r *report) failure(check bool) error {
	if len(r.Failures) > 0 {
		return errors.New("some measurements failed, see above")
	}
	if check && slices.ContainsFunc(r.Bars, func(v verdict) bool { return v.Verdict == missed }) {
		return errors.New("a bar was missed, see above")
	}
	return nil
}

// run takes no longer than a few times what it was given.
func run(ctx context.Context, c config, log io.Writer) (*report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*c.time+10*time.Minute, errors.New("it takes far too long"))
	defer cancel()
	ws, paths := c.choose()
	if len(ws) == 0 {
		return nil, errors.New("-work matches no measurement")
	}
	b, err := newBench(ctx, c.connect)
	if err != nil {
		return nil, err
	}
	defer b.close()
	r := &report{Date: time.Now(), Machine: thisMachine(), Peer: b.machine, TwoHosts: b.twoHosts, LoadBefore: load(), Rounds: c.rounds}
	all, err := measureAll(ctx, b, ws, paths, c.plan, log)
	if err != nil {
		return nil, err
	}
	r.Seconds, r.LoadAfter = time.Since(r.Date).Seconds(), load()
	r.Results = results(all)
	r.Bars = r.judge(bars)
	for _, s := range all {
		if s.err != nil {
			r.Failures = append(r.Failures, fmt.Sprintf("%s on %s: %v", s.workload.name, s.path, s.err))
		}
	}
	return r, nil
}

// choose returns what to measure; the reference and the control are always among the paths, and
// first.
func (c config) choose() (ws []workload, paths []lab.Path) {
	s := fullScale
	if c.quick {
		s = quickScale
	}
	for _, w := range workloads(s) {
		if c.work.MatchString(w.name) {
			ws = append(ws, w)
		}
	}
	for _, p := range lab.Paths() {
		if p.Name == lab.TCP || p.Name == lab.TCPAgain || c.paths.MatchString(p.Name) {
			paths = append(paths, p)
		}
	}
	return ws, paths
}
