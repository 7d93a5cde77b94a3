package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// progress is a bar that moves with the bytes written to it. Where out is not a terminal it prints
// a line per quarter.
type progress struct {
	out      io.Writer
	terminal bool
	done     int64
	total    int64 // not positive if it is not known; then nothing is shown
	shown    int64 // steps shown so far
}

const barWidth = 40

func newProgress(out io.Writer, total int64) *progress {
	return &progress{out: out, terminal: isTerminal(out), total: total}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	steps := int64(4)
	if p.terminal {
		steps = barWidth
	}
	if p.total <= 0 || p.done*steps/p.total == p.shown {
		return len(b), nil
	}
	p.shown = p.done * steps / p.total
	percent := p.done * 100 / p.total
	if p.terminal {
		bar := strings.Repeat("█", int(p.shown)) + strings.Repeat("░", barWidth-int(p.shown))
		fmt.Fprintf(p.out, "\r  %s %3d %%", bar, percent)
	} else {
		fmt.Fprintf(p.out, "  %3d %%\n", percent)
	}
	return len(b), nil
}

// finish leaves the bar's line.
func (p *progress) finish() {
	if p.terminal && p.shown > 0 {
		fmt.Fprintln(p.out)
	}
}
