//go:build linux

package kernel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mpaOptions are what the two ends negotiate with.
type mpaOptions struct {
	rev            int  // MPA revision that the client offers
	siwCRC, ourCRC bool // who asks for CRC32C
	p2p            bool // siw asks for a first FPDU of the initiator (RFC 6581)
}

// everyMPA is all that siw can be told.
var everyMPA = []mpaOptions{
	{rev: 2}, {rev: 2, ourCRC: true}, {rev: 2, siwCRC: true}, {rev: 2, siwCRC: true, ourCRC: true},
	{rev: 1}, {rev: 1, ourCRC: true}, {rev: 1, siwCRC: true}, {rev: 1, siwCRC: true, ourCRC: true},
	{rev: 2, p2p: true}, {rev: 2, p2p: true, siwCRC: true, ourCRC: true},
}

// covered reports whether the options are run on the route. The quick form covers each option and
// each route, but not all pairs.
func (m meeting) covered() bool {
	o := m.o
	switch {
	case *fullFlag:
		return true
	case m.route.name == "host":
		return o.rev == 2 && !o.p2p && o.siwCRC == o.ourCRC
	case m.route.name == "veth":
		return o.rev == 2 && !o.p2p
	case m.route.name == "eth0":
		return o.siwCRC == o.ourCRC && (o.p2p || o.rev == 1 || o.siwCRC)
	}
	return o.rev == 2 && o.siwCRC && o.ourCRC && !o.p2p
}

func (o mpaOptions) name() string {
	s := fmt.Sprintf("mpa=%d,siwcrc=%t,ourcrc=%t", o.rev, o.siwCRC, o.ourCRC)
	if o.p2p {
		s += ",p2p"
	}
	return s
}

func (o mpaOptions) String() string {
	s := fmt.Sprintf("MPA %d, ", o.rev)
	switch {
	case o.siwCRC && o.ourCRC:
		s += "CRC asked by both"
	case o.siwCRC:
		s += "CRC asked by siw"
	case o.ourCRC:
		s += "CRC asked by us"
	default:
		s += "no CRC"
	}
	if o.p2p {
		s += ", peer to peer"
	}
	return s
}

// crc reports whether the connection should have CRCs: if either end asks (RFC 5044 §7.1), but siw
// as a server never does.
func (o mpaOptions) crc(goServes bool) bool { return o.ourCRC || o.siwCRC && goServes }

// session is what a connection with the options is like on the wire.
func (o mpaOptions) session(goServes bool) session { return session{crc: o.crc(goServes), rev: o.rev} }

// stream is the same for one that carries a stream.
func (o mpaOptions) stream(goServes bool) session {
	s := o.session(goServes)
	s.stream = true
	return s
}

// flags are those of our programs.
func (o mpaOptions) flags() []string {
	return []string{fmt.Sprintf("-crc=%t", o.ourCRC), fmt.Sprintf("-mpa=%d", o.rev)}
}

// set tells siw until the end of the test.
func (o mpaOptions) set(t *testing.T, g *guest) {
	t.Helper()
	g.parameters(t, map[string]string{"mpa_crc_required": yesNo(o.siwCRC), "mpa_version": fmt.Sprint(o.rev), "peer_to_peer": yesNo(o.p2p)})
}

func yesNo(b bool) string {
	if b {
		return "Y"
	}
	return "N"
}

// parameters sets parameters of siw until the end of the test.
func (g *guest) parameters(t *testing.T, values map[string]string) {
	t.Helper()
	names := slices.Sorted(maps.Keys(values))
	exchange := func(values map[string]string) (was map[string]string) {
		script := "cd /sys/module/siw/parameters; cat " + strings.Join(names, " ")
		for _, name := range names {
			script += "; echo " + values[name] + " >" + name
		}
		said := strings.Fields(g.run(t, "sh", "-ec", script))
		require.Len(t, said, len(names))
		was = make(map[string]string)
		for i, name := range names {
			was[name] = said[i]
		}
		return was
	}
	if was := exchange(values); !maps.Equal(was, values) {
		t.Cleanup(func() { exchange(was) })
	}
}
