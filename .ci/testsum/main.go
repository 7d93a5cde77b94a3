// Testsum reads `go test -json` on its standard input and prints what a reader of a build log
// wants: go test's own closing line of each package, the whole output of each test that failed, and
// each skip with its reason. With -results it adds a line "result package test" for each test to a
// file, where result is pass, fail or skip, or parent for a test that counts through its subtests.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
)

// event is what test2json and go build -json print.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

type key struct{ pkg, test string }

type summary struct {
	out     io.Writer
	output  map[key][]string
	parents map[key]bool
	ended   map[key]string
	grave   map[string]bool // packages whose failure no second run makes good
	builds  map[string][]string
	results []string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("testsum: ")
	file := flag.String("results", "", "file to add the results to")
	flag.Parse()
	s := &summary{
		out: os.Stdout, output: map[key][]string{}, parents: map[key]bool{}, ended: map[key]string{},
		grave: map[string]bool{}, builds: map[string][]string{},
	}
	if err := s.read(os.Stdin); err != nil {
		log.Fatal(err)
	}
	s.close()
	if *file != "" {
		if err := s.save(*file); err != nil {
			log.Fatal(err)
		}
	}
}

func (s *summary) save(name string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for _, r := range s.results {
		if _, err := fmt.Fprintln(f, r); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

func (s *summary) read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) != nil:
			fmt.Fprintf(s.out, "%s", line) // not of the test runner: go's own complaints
		default:
			s.add(e)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
	case "build-fail":
		s.print(s.builds[e.ImportPath])
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
			s.parents[key{e.Package, e.Test[:i]}] = true
		}
	case "output":
		s.grave[e.Package] = s.grave[e.Package] || isGrave(e.Output)
		s.output[k] = append(s.output[k], e.Output)
	case "pass", "fail", "skip":
		s.end(k, e.Action)
	}
}

func (s *summary) end(k key, action string) {
	if k.test == "" {
		s.endPackage(k, action)
		return
	}
	s.ended[k] = action
	switch {
	case action == "fail":
		s.print(s.output[k])
	case action == "skip":
		fmt.Fprintf(s.out, "skipped %s %s: %s\n", k.pkg, k.test, reason(s.output[k]))
	}
	delete(s.output, k)
	if s.parents[k] && (action != "fail" || s.failedBelow(k.pkg, k.test+"/")) {
		action = "parent"
	}
	s.result(action, k)
}

func (s *summary) result(what string, k key) {
	s.results = append(s.results, fmt.Sprintf("%s %s %s", what, k.pkg, k.test))
}

// failedBelow reports whether a test of pkg whose name begins with prefix has failed.
func (s *summary) failedBelow(pkg, prefix string) bool {
	for o, action := range s.ended {
		if action == "fail" && o.pkg == pkg && strings.HasPrefix(o.test, prefix) {
			return true
		}
	}
	return false
}

func (s *summary) endPackage(k key, action string) {
	if action == "fail" {
		// Tests that a panic or a time-out cut off have no end of their own.
		for o, lines := range s.output {
			if o.pkg == k.pkg && o.test != "" {
				s.print(lines)
				s.ended[o] = "fail"
				s.result("fail", o)
				delete(s.output, o)
				s.grave[k.pkg] = true
			}
		}
		s.print(s.output[k])
		if s.grave[k.pkg] || !s.failedBelow(k.pkg, "") {
			s.result("fail", k) // did not build, or failed outside a test
		}
	} else {
		for _, line := range s.output[k] {
			if strings.HasPrefix(line, "ok ") || strings.Contains(line, "[no test files]") {
				s.print([]string{line})
			}
		}
	}
	delete(s.output, k)
}

// close prints what is left when the runner itself was ended.
func (s *summary) close() {
	for k, lines := range s.output {
		fmt.Fprintf(s.out, "no end of %s %s:\n", k.pkg, k.test)
		s.print(lines)
		s.result("fail", k)
	}
}

func (s *summary) print(lines []string) {
	for _, l := range lines {
		fmt.Fprint(s.out, l)
	}
}

// isGrave reports whether a line of output tells of a data race, or of an end of the whole program,
// after which other tests have not run.
func isGrave(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "WARNING: DATA RACE")
}

// reason is the message of t.Skip: the lines between the test runner's own.
func reason(lines []string) string {
	var out []string
	for _, l := range lines {
		if t := strings.TrimSpace(l); t != "" && !strings.HasPrefix(t, "=== ") && !strings.HasPrefix(t, "--- ") {
			out = append(out, t)
		}
	}
	return strings.Join(out, " ")
}
