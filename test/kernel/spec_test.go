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

// numbers in a verdict, other than those of the frames, are of a run.
var ofARun = regexp.MustCompile(`127\.0\.0\.1:\d+|(\d+\.){3}\d+:\d+(->(\d+\.){3}\d+:\d+)?`)

// TestSpec checks siw by iwarpspec: as the responder through rping, which accepts any private data.
// Some of the cases stop a kernel's listener or worse, so only those of an open connection are
// tried, and no more of them than one for each rule unless all is asked for.
func TestSpec(t *testing.T) {
	g := theGuest(t)
	g.parameters(t, map[string]string{"mpa_crc_required": "Y"})
	want := "revision 1$"
	if !*fullFlag {
		want = "(rdmap version 2|send to queue 3|ddp version 2|opcode 12|write to stag 0x1|read of nothing), .*revision 1$"
	}
	p := g.newPair(false, g.route("lo"))
	record(t, cell{"rping -P (siw)", "client", "lo", "iwarpspec"})
	server := g.startFor(t, groupLimit, append([]string{"rping", "-P"}, rpingArgs(p, true, 64)...)...)
	g.awaitListener(t, server, p)
	defer server.Kill()
	spec := g.startFor(t, groupLimit, "iwarpspec", "-private", "", "-timeout", "4s", "-pause", "600ms", "-format", "json", "-run", want, p.addr+":"+p.port)
	_, err := spec.Wait()
	require.NoError(t, err)
	var all []verdict
	require.NoError(t, json.Unmarshal([]byte(spec.Stdout()), &all), spec.Stderr())
	require.NotEmpty(t, all)
	var table strings.Builder
	table.WriteString("| case | what siw does |\n|---|---|\n")
	for _, v := range all {
		if v.Broken != "" {
			fmt.Fprintf(&table, "| %s | %s |\n", v.title(), ofARun.ReplaceAllString(v.Broken, "…"))
		}
	}
	fmt.Fprintf(&table, "\n%d cases, of revision 1.\n", len(all))
	t.Log(table.String())
	section("What of the standards siw does not keep to, as the responder", table.String())
	g.healthy(t)
}
