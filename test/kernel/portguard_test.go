//go:build linux

package kernel

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// Without portguard a TCP socket and rdma_cm both get a port of rxe, as TestDevicePorts shows. With
// it the TCP socket is refused, for as long as somebody has the port in rdma_cm. What was there
// first is reported.
func TestPortguard(t *testing.T) {
	g := theGuest(t)
	rxe := hcas(t, g)[1]
	guard := g.startFor(t, groupLimit, "iwarp-portguard", "--verbose")
	require.NoError(t, guard.WaitOutput("holding ports"))

	t.Run("rdma_cm then a TCP socket", func(t *testing.T) {
		record(t, cell{"iwarp-portguard", "", "rxe", "rdma_cm first, then a TCP socket"})
		p := rxe.pair(g)
		s := byRDMA.holds(t, g, rxe, p)
		require.NoError(t, guard.WaitOutput(`"port held" port=`+p.addr+":"+p.port))
		byTCP.refused(t, g, p)
		s.Kill()
		require.NoError(t, guard.WaitOutput(`"port given back" port=`+p.addr+":"+p.port))
		byTCP.holds(t, g, rxe, p)
	})
	t.Run("wildcard", func(t *testing.T) { // which siw holds on its own interfaces
		record(t, cell{"iwarp-portguard", "", "rxe", "rdma_cm on a wildcard, then a TCP socket"})
		p := rxe.pair(g)
		g.startFor(t, groupLimit, "rping", "-s", "-P", "-p", p.port)
		require.NoError(t, guard.WaitOutput(`"port held" port=0.0.0.0:`+p.port))
		byTCP.refused(t, g, p)
		byTCP.refused(t, g, pair{addr: guestAddr, port: p.port})
	})
	t.Run("connection", func(t *testing.T) {
		record(t, cell{"iwarp-portguard", "client", "rxe", "the local port of a connection"})
		p := rxe.pair(g)
		byRDMA.holds(t, g, rxe, p)
		g.startFor(t, groupLimit, again(words("rping -c -C 100000000 -a %s -p %s", p.addr, p.port))...)
		local := regexp.MustCompile(`src-addr ` + regexp.QuoteMeta(p.addr) + `:(\d+) dst-addr ` + regexp.QuoteMeta(p.addr+":"+p.port))
		var found []string
		eventually(t, nil, func() bool {
			found = local.FindStringSubmatch(g.run(t, "rdma", "resource", "show", "cm_id"))
			return found != nil
		})
		require.NoError(t, guard.WaitOutput(`"port held" port=`+p.addr+":"+found[1]))
		byTCP.refused(t, g, pair{addr: p.addr, port: found[1]})
	})
	t.Run("a TCP socket then rdma_cm", func(t *testing.T) {
		record(t, cell{"iwarp-portguard", "", "rxe", "a TCP socket first, then rdma_cm: reported"})
		p := rxe.pair(g)
		byTCP.holds(t, g, rxe, p)
		byRDMA.holds(t, g, rxe, p)
		require.NoError(t, guard.WaitOutput("port conflict: another program has the port of an RDMA program\" port="+p.addr+":"+p.port))
		check := g.start(t, "iwarp-portguard", "--check")
		exit, err := check.Wait()
		require.NoError(t, err)
		require.Equal(t, 1, exit, check.Stderr())
		require.Regexp(t, `(?m)^conflict +`+p.addr+`:`+p.port+` +rxe0 +rping\(\d+\) +listening on .* by go-stream`, check.Stdout())
		require.NotRegexp(t, `(?m)^conflict .*iwarp-portguard`, check.Stdout())
	})
	t.Run("this module", func(t *testing.T) { // holds its ports by itself
		record(t, cell{"iwarp-portguard", "", "rxe", "beside package iwarp"})
		p := rxe.pair(g)
		byUs.holds(t, g, rxe, p)
		require.NoError(t, guard.WaitOutput(`"port is held by the RDMA program itself" port=`+p.addr+":"+p.port))
		require.NotRegexp(t, "port conflict.*port="+p.addr+":"+p.port, guard.Stderr())
	})
	t.Run("window", func(t *testing.T) {
		tries := "5"
		if *fullFlag {
			tries = "25"
		}
		out := succeeds(t, g.startFor(t, groupLimit, "portguard.test", "-test.v", "-test.run", "^TestWindow$", "-window", rxe.addr, "-window-tries", tries))
		require.NotContains(t, out, "--- SKIP")
		said := regexp.MustCompile(`\d+ listeners: .*`).FindString(out)
		require.NotEmpty(t, said, out)
		t.Log(said)
		section("How long portguard takes to hold a port", "In an emulated guest, with the default interval of 100 ms: "+said+".")
	})
	t.Run("without privilege", func(t *testing.T) {
		// It sees and holds what root does, without a capability and as nobody.
		p := rxe.pair(g)
		byRDMA.holds(t, g, rxe, p)
		guard.Kill()
		nobody := g.startFor(t, groupLimit, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs", "iwarp-portguard", "--verbose")
		require.NoError(t, nobody.WaitOutput(`"port held" port=`+p.addr+":"+p.port))
		byTCP.refused(t, g, p)
	})
}
