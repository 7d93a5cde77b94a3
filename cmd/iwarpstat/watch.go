package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/term"
)

// A pace is the time between two looks: as Go has it, or a number of seconds.
type pace time.Duration

func (p *pace) String() string { return time.Duration(*p).String() }
func (p *pace) Type() string   { return "time" }

// Set implements pflag.Value.
func (p *pace) Set(s string) error {
	d, err := time.ParseDuration(s)
	if seconds, nerr := strconv.ParseFloat(s, 64); nerr == nil {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err != nil || d <= 0 {
		return errors.New("neither a number of seconds nor a time such as 500ms")
	}
	*p = pace(d)
	return nil
}

// joinWatch has -w take the time that follows it, which to the parser of flags is a condition, as
// the time may be left out.
func joinWatch(args []string) (joined []string) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		short := strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.HasSuffix(a, "w")
		if (short || a == "--watch") && i+1 < len(args) && args[i+1] != "" && args[i+1][0] >= '0' && args[i+1][0] <= '9' {
			i++
			a += "=" + args[i]
		}
		joined = append(joined, a)
	}
	return joined
}

const clearScreen = "\x1b[H\x1b[2J"

// live shows what there is again and again: as a table on a terminal, and else as text.
func (o *options) live(look func() (*report, error), out io.Writer) error {
	before := "" // each look
	if f, ok := out.(*os.File); ok && o.interactive(f) {
		return o.browse(look, f)
	} else if ok && term.IsTerminal(f.Fd()) && os.Getenv("TERM") != "dumb" {
		before = clearScreen
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	tick := time.NewTicker(time.Duration(o.watch))
	defer tick.Stop()
	for {
		r, err := look()
		if err != nil {
			return err
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "%s%s  every %s\n\n", before, r.Time.Format(time.TimeOnly), &o.watch)
		if err := o.write(r, &b); err != nil {
			return err
		}
		r.remarks(&b)
		if _, err := out.Write(b.Bytes()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
