package statpage

import (
	"net/netip"
	"testing"
	"time"
)

var sum *Sum

// BenchmarkConn is all that a connection costs that carries nothing.
func BenchmarkConn(b *testing.B) {
	t := Traits{
		Since: time.Now(), Local: netip.MustParseAddrPort("127.0.0.1:5201"), Remote: netip.MustParseAddrPort("127.0.0.1:41000"),
		Device: "soft", Revision: 2, IRD: 16, ORD: 16, Flags: FlagCRC | FlagExtended,
	}
	later := Traits{Transport: "soft", Flags: FlagAccepted, Setup: 100 * time.Microsecond}
	b.ReportAllocs()
	for b.Loop() {
		c := OpenConn(&t)
		c.SetRing(1 << 18)
		c.SetSegment(1 << 14)
		c.Given(1<<18, 100)
		c.SetState(Established, 0)
		c.Amend(&later)
		SetUp(Accepted, "soft", 0, later.Setup)
		c.SetState(Closed, 0)
		sum = c.Sum()
		c.Free()
	}
}
