//go:build linux

package kernel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// nuttcpPort is where nuttcp's data goes, whatever its port.
const nuttcpPort = "5101"

// mayStall is a session with a program that may stall, or that a relay has beside plain TCP to the
// same port.
var mayStall = session{crc: true, stream: true, broken: true}

// relayed has a relay of ours between the two ends of a program that knows nothing of RDMA, one of
// them on rsockets: what that one talks to is a Conn of ours. The relay is in the namespace, and so
// is a plain client.
func (s swap) relayed(t *testing.T, g *guest, r route, want expected) {
	for _, goServes := range []bool{true, false} {
		t.Run("relay/"+s.name+"/go="+roleName(goServes), func(t *testing.T) {
			p := g.newPair(goServes, r)
			want.add(t, p, mayStall)
			for _, port := range []string{p.port, nuttcpPort} {
				listen, to := p.addr+":"+port, vethAddr+":"+port
				args := words("go-relay -l %s -to %s", listen, to)
				if !goServes {
					args = words("go-relay -reverse -l 127.0.0.1:%s -to %s", port, to)
				}
				require.NoError(t, r.ours.start(t, args...).WaitOutput("listening on"))
			}
			server, client := s.server(pair{addr: vethAddr, port: p.port}), s.client(p)
			at := &g.place
			if goServes {
				client = append(preload, client...)
			} else {
				server, client = append(preload, server...), s.client(pair{addr: "127.0.0.1", port: p.port})
				at = r.ours
			}
			why := g.meet(t, p, server, at, client)
			outcomeOf(t, cell{s.name + " preloaded (siw)", roleName(goServes), "veth", "a relay of ours to plain TCP"}, s.name, why)
		})
	}
}
