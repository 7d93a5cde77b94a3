package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// A result is that of one case.
type result struct {
	Section string        `json:"section"` // of which standard, such as "RFC 5041 §7.2"
	Name    string        `json:"name"`
	Rule    string        `json:"rule"`
	Broken  string        `json:"broken,omitempty"`  // what the peer did in place of that
	Skipped string        `json:"skipped,omitempty"` // why the rule does not concern the peer
	Took    time.Duration `json:"nanoseconds"`
}

func (r *result) title() string { return r.Section + ": " + r.Name }

// formats write results.
var formats = map[string]func(io.Writer, []result) error{"text": writeText, "json": writeJSON, "tap": writeTAP, "junit": writeJUnit}

func writeText(w io.Writer, all []result) error {
	broken, skipped := 0, 0
	for _, r := range all {
		switch {
		case r.Skipped != "":
			skipped++
			fmt.Fprintf(w, "skipped %s: %s\n", r.title(), r.Skipped)
			continue
		case r.Broken == "":
			fmt.Fprintln(w, "kept   ", r.title())
			continue
		}
		broken++
		fmt.Fprintf(w, "BROKEN  %s\n        rule: %s\n        peer: %s\n", r.title(), r.Rule, r.Broken)
	}
	_, err := fmt.Fprintf(w, "%d cases, %d broken, %d skipped\n", len(all), broken, skipped)
	return err
}

func writeJSON(w io.Writer, all []result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(all)
}

// writeTAP writes version 13 of the Test Anything Protocol.
func writeTAP(w io.Writer, all []result) error {
	fmt.Fprintf(w, "TAP version 13\n1..%d\n", len(all))
	for i, r := range all {
		switch {
		case r.Skipped != "":
			fmt.Fprintf(w, "ok %d - %s # SKIP %s\n", i+1, r.title(), r.Skipped)
			continue
		case r.Broken == "":
			fmt.Fprintf(w, "ok %d - %s\n", i+1, r.title())
			continue
		}
		fmt.Fprintf(w, "not ok %d - %s\n  ---\n  rule: %q\n  peer: %q\n  ...\n", i+1, r.title(), r.Rule, r.Broken)
	}
	return nil
}

func writeJUnit(w io.Writer, all []result) error {
	type failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type skipped struct {
		Message string `xml:"message,attr"`
	}
	type testcase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Time    float64  `xml:"time,attr"`
		Failure *failure `xml:"failure"`
		Skipped *skipped `xml:"skipped"`
	}
	suite := struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testcase `xml:"testcase"`
	}{Name: "iwarpspec", Tests: len(all)}
	for _, r := range all {
		c := testcase{Class: strings.ReplaceAll(r.Section, ".", "_"), Name: r.Name, Time: r.Took.Seconds()}
		if r.Broken != "" {
			suite.Failures++
			c.Failure = &failure{Message: r.Rule, Text: r.Broken}
		}
		if r.Skipped != "" {
			suite.Skipped++
			c.Skipped = &skipped{r.Skipped}
		}
		suite.Cases = append(suite.Cases, c)
	}
	io.WriteString(w, xml.Header)
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	return e.Encode(suite)
}
