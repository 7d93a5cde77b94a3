//go:build linux

package kernel

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rcopyMPA are the options with which files are copied.
var rcopyMPA = []mpaOptions{{rev: 2}, {rev: 2, siwCRC: true, ourCRC: true}, {rev: 1}, {rev: 1, siwCRC: true, ourCRC: true}}

// Files of the guest to copy, the last of which is larger than all rings.
var rcopyFiles = []string{"/etc/passwd", "/usr/bin/curl", "/vm/go-stream"}

const rcopied = "/tmp/rcopied"

// librdmacm's rcopy on siw and a Conn of ours. The C server listens on all IPv4 addresses, and the
// C client takes an address to end at its first colon, so there is no IPv6.
func TestRcopy(t *testing.T) {
	g := theGuest(t)
	for _, file := range rcopyFiles {
		t.Run("control"+file, func(t *testing.T) {
			record(t, cell{"rcopy (siw)", "control", "eth0", "both ends are C"})
			p := g.inGuest(false)
			s := g.start(t, "rcopy", "-p", p.port)
			g.awaitListener(t, s, p)
			g.run(t, again([]string{"rcopy", file, p.addr + ":" + rcopied, "-p", p.port})...)
			s.Kill() // it serves without end
			g.run(t, "cmp", file, rcopied)
		})
	}
	wanted := func(m meeting) bool { return m.nth == 0 || *fullFlag }
	pairs(t, onIPv4, rcopyMPA, wanted, func(t *testing.T, g *guest, m meeting) {
		files := rcopyFiles
		if m.nth > 0 || m.route.name != "veth" {
			files = files[1:2]
		}
		for _, file := range files {
			t.Run(file, func(t *testing.T) {
				record(t, m.cell("rcopy (siw)", ""))
				p := g.newPair(m.goServes, m.route)
				m.want.add(t, p, m.o.stream(m.goServes))
				rcopy(t, g, p, file, m.o)
			})
		}
	})
}

// rcopy copies a file of the guest: to our end, which runs in the guest or on the host, or from it.
func rcopy(t *testing.T, g *guest, p pair, file string, o mpaOptions) {
	t.Helper()
	rcopied := rcopied + p.port
	g.run(t, "rm", "-f", rcopied)
	target := rcopied
	if p.ours.name == "host" {
		target = t.TempDir() + "/rcopied"
	}
	if p.goServes {
		s := p.ours.start(t, slices.Concat([]string{"go-rcopy"}, o.flags(), []string{"-l", net.JoinHostPort(p.addr, p.port)})...)
		require.NoError(t, s.WaitOutput("listening on"))
		g.run(t, again([]string{"rcopy", file, p.addr + ":" + target, "-p", p.port})...)
		succeeds(t, s)
		require.Equal(t, g.sum(t, file), p.ours.sum(t, target))
		return
	}
	s := g.start(t, "rcopy", "-p", p.port)
	g.awaitListener(t, s, p)
	source := file
	if p.ours.name == "host" { // where there is another of the name, or the one that the guest got
		source = strings.Replace(file, "/vm", bin, 1)
	}
	p.ours.run(t, slices.Concat([]string{"go-rcopy"}, o.flags(), []string{"-c", net.JoinHostPort(p.addr, p.port), "-from", source, "-to", rcopied})...)
	s.Kill()
	require.Equal(t, p.ours.sum(t, source), g.sum(t, rcopied))
}

// sum is the digest of a file.
func (p *place) sum(t *testing.T, file string) string {
	t.Helper()
	return p.run(t, "/usr/bin/env", "sh", "-c", "sha256sum <"+strconv.Quote(file))
}
