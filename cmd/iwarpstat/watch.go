package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

// live shows what there is again and again: as a table on a terminal, and else as text.
func (o *options) live(look func() (*report, error), out io.Writer) error {
	if f, ok := out.(*os.File); ok && o.interactive(f) {
		return o.browse(look, f)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	tick := time.NewTicker(o.watch)
	defer tick.Stop()
	for {
		r, err := look()
		if err != nil {
			return err
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "\x1b[H\x1b[2J%s  every %s\n\n", r.Time.Format(time.TimeOnly), o.watch)
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
