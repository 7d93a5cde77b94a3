// Iwarpspec checks whether a listener keeps to the standards of iWARP: RFC 5044 (MPA), RFC 6581
// (enhanced set-up), RFC 5041 (DDP) and RFC 5040 (RDMAP). It is the initiator, on connections of
// its own, one for each case, and speaks by an encoder of its own.
package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// Exit codes.
const (
	exitKept   = 0
	exitBroken = 1 // a rule is broken
	exitFailed = 2
)

func run(args []string, out, errs io.Writer) int {
	f := flag.NewFlagSet("iwarpspec", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() {
		fmt.Fprintln(errs, "usage: iwarpspec [flags] ADDRESS:PORT\n\nexit code: 0 if every rule is kept, 1 if one is not, 2 after an error")
		f.PrintDefaults()
	}
	format := f.String("format", "text", "of the result: text, json, tap or junit")
	only := f.String("run", "", "regular expression of the cases to run, by their names")
	private := f.String("private", "rsocket", `private data of the request in hex, or "rsocket" for that of a stream`)
	wait := f.Duration("timeout", 5*time.Second, "limit for a case")
	list := f.Bool("list", false, "list the cases, and run none")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitKept
		}
		return exitFailed
	}
	t, err := newTarget(f.Arg(0), *private, *wait)
	want, bad := regexp.Compile(*only)
	write := formats[*format]
	switch {
	case *list:
		for _, c := range allCases() {
			fmt.Fprintln(out, c.title())
		}
		return exitKept
	case f.NArg() != 1:
		err = errors.New("one address is needed; see -help")
	case bad != nil:
		err = bad
	case write == nil:
		err = fmt.Errorf("no format %q; there are text, json, tap and junit", *format)
	}
	if err != nil {
		fmt.Fprintln(errs, "iwarpspec:", err)
		return exitFailed
	}
	var results []result
	code := exitKept
	for _, c := range allCases() {
		if !want.MatchString(c.title()) {
			continue
		}
		r := t.try(&c)
		if r.Broken != "" {
			code = exitBroken
		}
		results = append(results, r)
	}
	if err := write(out, results); err != nil {
		fmt.Fprintln(errs, "iwarpspec:", err)
		return exitFailed
	}
	return code
}

// newTarget is what the flags say about the listener.
func newTarget(address, private string, wait time.Duration) (*target, error) {
	t := &target{address: address, wait: wait}
	if private == "rsocket" {
		t.private = rsocketData()
		return t, nil
	}
	var err error
	t.private, err = hex.DecodeString(private)
	return t, err
}
