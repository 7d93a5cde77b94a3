//go:build linux

package kernel

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What siw makes of a peer that breaks the protocols, with CRC. It writes layer and type of a
// Terminate in the wrong halves of their byte.
func TestTerminate(t *testing.T) {
	g := theGuest(t)
	g.parameters(t, map[string]string{"mpa_crc_required": "Y"})
	var table strings.Builder
	table.WriteString("| fault | peer | siw's answer |\n|---|---|---|\n")
	for _, c := range []struct {
		fault   string
		rsocket bool
		want    string
	}{
		{"none", true, "closed"},
		{"wrong stag", true, "1/1/0x00"},
		{"bounds", true, "1/1/0x01"},
		{"send too long", false, "1/2/0x02"},
		{"no receive", false, "1/2/0x02"},
		{"message number", true, "1/2/0x03"},
		{"message offset", true, "1/2/0x04"},
		{"queue number", true, "1/2/0x01"},
		{"opcode", true, "0/2/0x06"},
		{"ddp version", true, "1/2/0x06"},
		{"rdmap version", true, "0/2/0x05"},
		{"crc", true, "2/0/0x02"},
		{"length", true, "closed"},
		{"split payload", true, "closed"},
		{"split crc", true, "2/0/0x02"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			who, out := g.attack(t, "badpeer", "we break the protocol: ", c.fault, c.rsocket)
			fmt.Fprintf(&table, "| %s | %s | %s |\n", c.fault, who, out)
			require.Contains(t, out, c.want)
			g.healthy(t)
		})
	}
	section("What siw answers to faults of its peer", "The fault of the first line is none. The last one is siw's own: it forgets the first part of a CRC that is spread over two segments.\n\n"+table.String())
}

// attack has a program of ours make the fault towards a server on siw, and returns who that is and
// what the program says of it.
func (g *guest) attack(t *testing.T, program, what, fault string, rsocket bool) (who, out string) {
	t.Helper()
	p := g.newPair(false, g.route("lo"))
	args := []string{program, "-to", p.addr + ":" + p.port, "-case", fault}
	var victim []string
	if rsocket {
		who, args = "rsockets", append(args, "-rsocket")
		victim = flow{ours: 1 << 20, chunk: 1, theirEnd: "half"}.cStream(p, true)
	} else {
		who = "rping"
		victim = append([]string{"rping"}, rpingArgs(p, true, 64)...)
	}
	record(t, cell{who + " (siw)", "client", "lo", what + fault})
	server := g.start(t, victim...)
	g.awaitListener(t, server, p)
	defer server.Kill() // rsockets may not notice the end
	return who, strings.TrimSpace(g.run(t, args...))
}
