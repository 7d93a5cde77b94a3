//go:build linux

package kernel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// controlMPA are the options that two ends on siw can have.
var controlMPA = []mpaOptions{{rev: 2}, {rev: 2, siwCRC: true}, {rev: 2, p2p: true}, {rev: 1}, {rev: 1, siwCRC: true}}

// Two C ends: what fails here is not ours to mend.
func TestControl(t *testing.T) {
	g := theGuest(t)
	for _, o := range controlMPA {
		t.Run(o.name(), func(t *testing.T) {
			o.set(t, g)
			t.Run("rping", func(t *testing.T) {
				if o.rev == 1 {
					noReadsWithMPA1(t, g, o)
					return
				}
				record(t, cell{"rping (siw)", "control", "eth0", o.String()})
				p := g.inGuest(false)
				g.control(t, p, func(server bool) []string { return append([]string{"rping"}, rpingArgs(p, server, 1000)...) })
			})
			t.Run("rstream", func(t *testing.T) {
				record(t, cell{"rstream (siw)", "control", "eth0", o.String()})
				p := g.inGuest(false)
				x := xfer{size: 1000, count: 20, iterations: 1, mode: "b"}
				g.control(t, p, func(server bool) []string { return x.theirs(p, server) })
			})
		})
	}
	t.Run("rxe", func(t *testing.T) {
		record(t, cell{"rping (rxe)", "control", "dummy0", "both ends are C"})
		p := hcas(t, g)[1].pair(g)
		server := g.start(t, append([]string{"rping"}, rpingArgs(p, true, 1000)...)...)
		g.awaitCM(t, server, p.addr+":"+p.port)
		g.run(t, again(append([]string{"rping"}, rpingArgs(p, false, 1000)...))...)
		succeeds(t, server)
	})
}

// readsNeedMPA2 is why rping's server fails towards a client that offers MPA revision 1.
const readsNeedMPA2 = "siw's server allows itself no RDMA Read, as revision 1 does not tell how many the client takes"

// noReadsWithMPA1 shows that between two C ends.
func noReadsWithMPA1(t *testing.T, g *guest, o mpaOptions) {
	p := g.inGuest(false)
	s := g.start(t, append([]string{"rping"}, rpingArgs(p, true, 1000)...)...)
	g.awaitListener(t, s, p)
	c := g.start(t, again(append([]string{"rping"}, rpingArgs(p, false, 1000)...))...)
	exit, err := s.Wait()
	require.NoError(t, err)
	require.NotZero(t, exit, "it works now")
	require.Contains(t, s.Stdout()+s.Stderr(), "post send error")
	_, err = c.Wait()
	require.NoError(t, err)
	fault(t, cell{"rping (siw)", "control", "eth0", o.String()}, readsNeedMPA2)
}
