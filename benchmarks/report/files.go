package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// write puts the report into a folder, in each of its forms.
func (r *report) write(folder string) error {
	if folder == "" {
		return nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, form := range map[string]func(io.Writer) error{
		"report.md":   func(w io.Writer) error { r.markdown(w); return nil },
		"report.json": r.json,
		"report.html": r.page,
		"bench.txt":   r.benchstat,
	} {
		var b bytes.Buffer
		if err := form(&b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

// benchstat writes each slice as the Go command would write a run of a benchmark.
func (r *report) benchstat(w io.Writer) error {
	fmt.Fprintf(w, "pkg: github.com/rdmanet/iwarp/benchmarks\nsystem: %s\ncpu: %s\n", r.Machine.System, r.Machine.CPU)
	for _, x := range r.Results {
		name, rest, _ := strings.Cut(x.Workload, "/")
		for _, v := range x.Slices {
			if v.there() {
				fmt.Fprintf(w, "Benchmark%s/%s/%s 1 %g %s\n", name, x.Path, rest, float64(v), x.Unit)
			}
		}
	}
	return nil
}

// The lines in README.md and docs/performance.md between which the tables are.
const (
	tablesBegin = "<!-- from here: go run -C benchmarks/report . -docs ../.. -->"
	tablesEnd   = "<!-- to here -->"
)

// document has the documents below the folder show the report.
func (r *report) document(folder string) error {
	var brief, full bytes.Buffer
	r.brief(&brief)
	r.head(&full)
	r.details(&full)
	for name, text := range map[string]string{"README.md": brief.String(), filepath.Join("docs", "performance.md"): full.String()} {
		if err := replaceTables(filepath.Join(folder, name), text); err != nil {
			return err
		}
	}
	return nil
}

func replaceTables(file, text string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(b), tablesBegin)
	_, after, ends := strings.Cut(rest, tablesEnd)
	if !begins || !ends {
		return fmt.Errorf("%s lacks the line %q or %q", file, tablesBegin, tablesEnd)
	}
	return os.WriteFile(file, []byte(before+tablesBegin+"\n\n"+text+"\n"+tablesEnd+after), 0o644)
}
