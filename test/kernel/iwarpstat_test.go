//go:build linux

package kernel

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Iwarpstat lists what programs have that know nothing of this module.
func TestIwarpstatOthers(t *testing.T) {
	g := theGuest(t)
	rxe := hcas(t, g)[1]
	ping, stream := rxe.pair(g), rxe.pair(g)
	byRDMA.holds(t, g, rxe, ping)
	g.startFor(t, groupLimit, again(words("rping -c -C 100000000 -a %s -p %s", ping.addr, ping.port))...)
	s := g.startFor(t, groupLimit, words("rstream -b %s -p %s -S 64 -C 100000000", stream.addr, stream.port)...)
	rxe.await(t, g, s, stream)
	g.startFor(t, groupLimit, again(words("rstream -s %s -p %s -S 64 -C 100000000", stream.addr, stream.port))...)

	type object struct {
		PID                    int
		Process, Device, State string
		Local, Peer            string
		PortSpace              string `json:"port_space"`
		QPN, UID               uint32
		QPType                 string `json:"qp_type"`
	}
	look := func(args ...string) (list []object) {
		var r struct{ RDMA []object }
		p := g.start(t, append([]string{"iwarpstat", "--json"}, args...)...)
		_, err := p.Wait() // with 1 if nothing is there
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal([]byte(p.Stdout()), &r), p.Stderr())
		return r.RDMA
	}
	for name, p := range map[string]pair{"rping": ping, "rstream": stream} {
		t.Run(name, func(t *testing.T) {
			record(t, cell{"iwarpstat", "", "rxe", "lists a " + name + " of others"})
			var ends []object
			eventually(t, nil, func() bool {
				ends = look("port", p.port, "state", "established", "path", "rdma")
				return len(ends) == 2
			})
			listeners := look("-l", "sport", p.port, "state", "listening")
			require.Len(t, listeners, 1)
			require.Equal(t, name, strings.TrimSpace(g.run(t, "cat", "/proc/"+strconv.Itoa(listeners[0].PID)+"/comm")))
			for _, o := range append(ends, listeners...) {
				require.Equal(t, name, o.Process)
				require.Equal(t, rxe.device, o.Device)
				require.Equal(t, "TCP", o.PortSpace)
			}
			require.Equal(t, []string{ends[0].Local, ends[0].Peer}, []string{ends[1].Peer, ends[1].Local})
			require.Contains(t, []string{ends[0].Local, ends[1].Local}, listeners[0].Local)
			require.Equal(t, p.addr+":"+p.port, listeners[0].Local)

			out := g.run(t, "iwarpstat", "-a", "-p", "process", name, "port", p.port)
			require.Contains(t, out, name+"("+strconv.Itoa(listeners[0].PID)+")", out)
			require.Contains(t, out, "rdma/"+rxe.device)
			t.Log("\n" + out)
			require.Contains(t, g.run(t, "iwarpstat", "-i", "port", p.port), "rdma_cm     CONNECT")
		})
	}
	g.run(t, "iwarpstat", "-q", "process", "rping")
	require.Empty(t, look("--pid", "1"))
	for _, o := range look() { // queue pairs that the kernel needs for itself are no news
		require.NotEqual(t, "GSI", o.QPType)
	}
}

// Iwarpstat agrees with what each connection of another process says of itself: 40 of plain TCP, 30
// of iWARP in software, 20 of rxe and 10 of siw; also of one that is stopped, and of one that was
// killed it lists none.
func TestIwarpstatDevices(t *testing.T) {
	g := theGuest(t)
	list := hcas(t, g)
	record(t, cell{"iwarpstat", "", "rxe and siw", "agrees with Describe"})
	p := g.startFor(t, groupLimit, "iwarpstat.test", "-test.v", "-test.run", "^TestDevices$", "-siw", list[0].addr, "-rxe", list[1].addr)
	out := succeeds(t, p)
	require.NotContains(t, out, "--- SKIP")
	t.Log(out)
}
