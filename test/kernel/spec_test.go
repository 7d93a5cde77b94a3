//go:build linux

package kernel

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A verdict is what iwarpspec says of a case.
type verdict struct{ Section, Name, Rule, Broken string }

func (v *verdict) title() string { return v.Section + ": " + v.Name }

// A breach is verdicts with the same text but for the bytes of a frame, of which it has the cause
// and flags of the Terminate.
type breach struct {
	text  string
	first verdict
	n     int
}

var (
	ofARun    = regexp.MustCompile(` ?(\d+\.){3}\d+:\d+(->(\d+\.){3}\d+:\d+)?`) // addresses
	terminate = regexp.MustCompile(`: 4147[0-9a-f]{32}([0-9a-f]{8})[0-9a-f]*$`)
)

// breaches are those of the rules that are broken, in the order of the cases.
func breaches(all []verdict) (found []*breach) {
	known := make(map[string]*breach)
	for _, v := range all {
		if v.Broken == "" {
			continue
		}
		v.Broken = ofARun.ReplaceAllString(v.Broken, "")
		text := terminate.ReplaceAllString(v.Broken, ": $1")
		if known[text] == nil {
			known[text] = &breach{text: text, first: v}
			found = append(found, known[text])
		}
		known[text].n++
	}
	return found
}

// TestSpec checks siw by iwarpspec: as the responder through rping, which accepts any private data.
// Only cases of an open connection are tried, with a pause after the set-up, and in revision 1: a
// connection that ends while it is accepted may stop iw_cm, and in revision 2 one that ends without
// a frame of the initiator stops the kernel.
func TestSpec(t *testing.T) {
	g := theGuest(t)
	want := ", revision 1$"
	if !*fullFlag {
		want = "(rdmap version 2|send to queue 3|ddp version 2|opcode 12|write to stag 0x1|read of nothing)" + want
	}
	p := g.newPair(false, g.route("lo"))
	record(t, cell{"rping -P (siw)", "client", "lo", "iwarpspec"})
	server := g.startFor(t, groupLimit, append([]string{"rping", "-P"}, rpingArgs(p, true, 64)...)...)
	g.awaitListener(t, server, p)
	spec := g.startFor(t, groupLimit, "iwarpspec", "-private", "", "-timeout", "4s", "-pause", "600ms", "-format", "json", "-run", want, p.addr+":"+p.port)
	_, err := spec.Wait() // with 1 where a rule is broken
	require.NoError(t, err)
	var all []verdict
	require.NoError(t, json.Unmarshal([]byte(spec.Stdout()), &all), spec.Stderr())
	require.NotEmpty(t, all)
	var table strings.Builder
	table.WriteString("| what it does | cases | the first of them, and its bytes |\n|---|---|---|\n")
	broken := 0
	for _, s := range breaches(all) {
		fmt.Fprintf(&table, "| %s | %d | %s: %s |\n", s.text, s.n, s.first.title(), s.first.Broken)
		broken += s.n
	}
	fmt.Fprintf(&table, "\n%d cases, of which %d break a rule.\n", len(all), broken)
	t.Log("\n" + table.String())
	section("What of the standards siw does not keep to, as the responder in MPA 1", table.String())
	g.healthy(t)
}
