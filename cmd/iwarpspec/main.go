// Iwarpspec checks whether an implementation of iWARP keeps to the standards: RFC 5044 (MPA), RFC
// 6581 (enhanced set-up), RFC 5041 (DDP) and RFC 5040 (RDMAP). It speaks by an encoder of its own,
// on a connection for each case: as the initiator to a listener, or with -listen as the responder,
// to which the implementation connects again and again, started by -exec or by hand. With -dial it
// is this module's own initiator.
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

// options are what the flags say.
type options struct {
	format, only, private string
	listen, exec          string
	dial                  bool
	revision              int
	wait, pause           time.Duration
	list                  bool
	address               string
}

const usage = `usage: iwarpspec [flags] ADDRESS:PORT            check a listener
       iwarpspec -listen ADDRESS:PORT [flags]   check what connects to it
       iwarpspec -dial [flags] ADDRESS:PORT     be what is checked, once

exit code: 0 if every rule is kept, 1 if one is not, 2 after an error`

func parse(args []string, errs io.Writer) (o options, err error) {
	f := flag.NewFlagSet("iwarpspec", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() {
		fmt.Fprintln(errs, usage)
		f.PrintDefaults()
	}
	f.StringVar(&o.format, "format", "text", "of the result: text, json, tap or junit")
	f.StringVar(&o.only, "run", "", "regular expression of the cases to run, by their names")
	f.StringVar(&o.private, "private", "rsocket", `private data of the request or reply in hex, or "rsocket" for that of a stream`)
	f.StringVar(&o.listen, "listen", "", "address and port to listen on, for an initiator that sends something once it is connected")
	f.StringVar(&o.exec, "exec", "", "command for the shell that has the initiator connect, run for each case of -listen; $ADDRESS is where to")
	f.BoolVar(&o.dial, "dial", false, "connect by this module's own stream, send a byte, and read to the end")
	f.IntVar(&o.revision, "revision", 2, "of MPA, for -dial")
	f.DurationVar(&o.wait, "timeout", 5*time.Second, "limit for a case, and with -listen for the next connection")
	f.DurationVar(&o.pause, "pause", 0, "how long to wait once a connection is accepted: iw_cm of Linux 6.1 dies of one that breaks sooner")
	f.BoolVar(&o.list, "list", false, "list the cases, and run none")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.address = f.Arg(0)
	if n := f.NArg(); !o.list && (o.listen == "" && n != 1 || o.listen != "" && n != 0) {
		return o, errors.New("one address is needed; see -help")
	}
	return o, nil
}

func run(args []string, out, errs io.Writer) int {
	o, err := parse(args, errs)
	if errors.Is(err, flag.ErrHelp) {
		return exitKept
	}
	code := exitKept
	if err == nil {
		code, err = o.run(out, errs)
	}
	if err != nil {
		fmt.Fprintln(errs, "iwarpspec:", err)
		return exitFailed
	}
	return code
}

func (o *options) run(out, errs io.Writer) (code int, err error) {
	want, err := regexp.Compile(o.only)
	if err != nil {
		return 0, err
	}
	cases := allCases(o.listen != "")
	switch {
	case o.list:
		for _, c := range cases {
			fmt.Fprintln(out, c.title())
		}
		return exitKept, nil
	case o.dial:
		return exitKept, o.dialOnce()
	}
	write := formats[o.format]
	if write == nil {
		return 0, fmt.Errorf("no format %q; there are text, json, tap and junit", o.format)
	}
	s, err := o.source(errs)
	if err != nil {
		return 0, err
	}
	defer s.close()
	var results []result
	for _, c := range cases {
		if !want.MatchString(c.title()) {
			continue
		}
		r := s.try(&c)
		if r.Broken != "" {
			code = exitBroken
		}
		results = append(results, r)
	}
	return code, write(out, results)
}

// source is where connections come from.
func (o *options) source(errs io.Writer) (*source, error) {
	s := &source{wait: o.wait, pause: o.pause, close: func() {}}
	if o.private == "rsocket" {
		s.private, s.rsocket = rsocketData(), true
	} else {
		var err error
		if s.private, err = hex.DecodeString(o.private); err != nil {
			return nil, fmt.Errorf("-private: %w", err)
		}
	}
	if o.listen == "" {
		s.connect = dialling(o.address)
		return s, nil
	}
	return s, s.listen(o.listen, o.exec, errs)
}
