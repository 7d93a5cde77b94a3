package statpage_test

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/statpage"
)

func traits() statpage.Traits {
	return statpage.Traits{
		Flags: statpage.FlagAccepted | statpage.FlagCRC, Reason: 4, PeerReason: 2, Revision: 2, IRD: 16, ORD: 255, Policy: 3,
		Since: time.Unix(1234, 5678), Local: netip.MustParseAddrPort("192.0.2.1:80"), Remote: netip.MustParseAddrPort("[2001:db8::1]:4791"),
		Transport: "soft", Device: "soft0", Text: "peer: limit", Setup: 5 * time.Millisecond,
	}
}

// entriesWith returns what the process has with that text.
func entriesWith(text string) (list []statpage.Entry) {
	for _, e := range statpage.Entries() {
		if e.Text == text {
			list = append(list, e)
		}
	}
	return list
}

func TestSizes(t *testing.T) {
	require.LessOrEqual(t, int(unsafe.Sizeof(statpage.Record{})), 300)
	require.EqualValues(t, statpage.RecordSize, unsafe.Sizeof(statpage.Record{}))
}

func TestConn(t *testing.T) {
	want := traits()
	want.Text = t.Name()
	c := statpage.OpenConn(&want)
	c.SetRing(1000)
	c.SetSegment(1448)
	c.Given(500, 7)
	c.Arrived(30)
	c.Arrived(12)
	c.Read(40)
	c.Sent(100, 2)
	c.Block(time.Unix(50, 0))
	c.Unblock(time.Unix(53, 0))
	c.Block(time.Unix(60, 0))
	c.SetState(statpage.Failed, 0x1234)

	list := entriesWith(t.Name())
	require.Len(t, list, 1)
	e := list[0]
	require.Equal(t, statpage.KindConn, e.Kind)
	require.Equal(t, want, e.Traits)
	require.Equal(t, statpage.Failed, e.State)
	require.EqualValues(t, 0x1234, e.Terminate)
	require.Equal(t, statpage.Flow{
		BytesIn: 42, MessagesIn: 2, BytesOut: 100, MessagesOut: 2, Unread: 2, Ring: 1000, Space: 400, Credits: 7,
		Blocked: 3 * time.Second, BlockedTimes: 1, BlockedSince: time.Unix(60, 0), Segment: 1448,
	}, e.Flow())

	c.Amend(&statpage.Traits{Reason: 9, Flags: statpage.FlagOffloaded, Transport: "rnic"})
	want.Reason, want.Transport = 9, "rnic"
	want.Flags |= statpage.FlagOffloaded
	require.Equal(t, want, entriesWith(t.Name())[0].Traits)
	c.Amend(&statpage.Traits{PeerReason: 3, Setup: time.Second, Text: t.Name() + "!"})
	want.PeerReason, want.Setup, want.Text = 3, time.Second, t.Name()+"!"
	require.Equal(t, want, entriesWith(want.Text)[0].Traits)
	c.Free()
	require.Empty(t, entriesWith(t.Name()))

	want.Text += "2"
	c = statpage.OpenConn(&want)
	defer c.Free()
	require.Zero(t, entriesWith(want.Text)[0].Counters, "nothing is left of what had the record before")
}

func TestListenerAndPort(t *testing.T) {
	tr := traits()
	tr.Text = t.Name()
	l := statpage.OpenListener(&tr)
	l.Count(statpage.Silent).Add(3)
	l.Count(statpage.PlainTCP).Add(4)
	p := statpage.OpenPort(2, &tr)
	p.Show(1, 5)
	list := entriesWith(t.Name())
	require.Len(t, list, 2)
	for _, e := range list {
		if e.Kind == statpage.KindListener {
			require.EqualValues(t, 3, e.Clients()[statpage.Silent])
			require.EqualValues(t, 4, e.Clients()[statpage.PlainTCP])
			require.Equal(t, "listening", e.State.OfListener())
			continue
		}
		require.Equal(t, "listening", e.State.OfPort())
		require.EqualValues(t, 5, e.References())
	}
	l.Free()
	p.Free()
	require.Empty(t, entriesWith(t.Name()))
}

// TestNoMix has a reader look at records that are given to one after another: it must never see
// parts of two.
func TestNoMix(t *testing.T) {
	const writers, rounds = 2, 3000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				port := uint16(w*rounds + i + 1)
				tr := statpage.Traits{
					Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(port >> 8), byte(port)}), port), Since: time.Unix(int64(port), 0),
					Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(port >> 8), byte(port)}), port), Transport: "mix", Setup: time.Duration(port),
				}
				c := statpage.OpenConn(&tr)
				c.Amend(&statpage.Traits{Reason: byte(port)})
				c.Free()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		for _, e := range append(statpage.Entries(), others(t)...) {
			if e.Transport != "mix" {
				continue
			}
			port := e.Local.Port()
			require.Equal(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(port >> 8), byte(port)}), port), e.Local)
			require.Equal(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(port >> 8), byte(port)}), port), e.Remote)
			require.EqualValues(t, port, e.Since.Unix())
			require.EqualValues(t, port, e.Setup)
			require.Contains(t, []byte{0, byte(port)}, e.Reason)
		}
	}
}

// TestGrowth opens more than fit into what there is at first, and has what was freed used again.
func TestGrowth(t *testing.T) {
	const many = 1000
	var list []*statpage.Conn
	open := func() {
		for range many {
			list = append(list, statpage.OpenConn(&statpage.Traits{Text: t.Name()}))
		}
	}
	free := func() {
		for _, i := range rand.Perm(len(list)) {
			list[i].Free()
		}
		list = nil
	}
	open()
	require.Len(t, entriesWith(t.Name()), many)
	free()
	require.Empty(t, entriesWith(t.Name()))
	capacity := statpage.Capacity()
	open()
	require.Equal(t, capacity, statpage.Capacity())
	free()
}

func TestNoRoomCountsNothing(t *testing.T) {
	var c *statpage.Conn
	c.Arrived(1)
	c.Read(1)
	c.Sent(1, 1)
	c.SetRing(1)
	c.SetSegment(1)
	c.Given(1, 1)
	c.SetCredits(1)
	c.Block(time.Now())
	c.Unblock(time.Now())
}

func TestTally(t *testing.T) {
	before := statpage.Own()
	statpage.SetUp(statpage.Accepted, "soft", 0, 100*time.Microsecond)
	statpage.SetUp(statpage.Dialed, "tcp", 4, 0)
	statpage.SetUp(statpage.Dialed, "another", 200, 0)
	statpage.Fail(statpage.Dialed, 6)
	after := statpage.Own()
	require.EqualValues(t, 1, after.Setups[statpage.Accepted][statpage.PathOf("soft")][0]-before.Setups[statpage.Accepted][statpage.PathOf("soft")][0])
	require.EqualValues(t, 1, after.Setups[statpage.Dialed][statpage.PathOf("tcp")][4]-before.Setups[statpage.Dialed][statpage.PathOf("tcp")][4])
	require.EqualValues(t, 1, after.Setups[statpage.Dialed][0][15]-before.Setups[statpage.Dialed][0][15])
	require.EqualValues(t, 1, after.Failures[statpage.Dialed][6]-before.Failures[statpage.Dialed][6])
	b := statpage.Bucket(100 * time.Microsecond)
	require.EqualValues(t, 1, after.Times[statpage.Accepted][1][b]-before.Times[statpage.Accepted][1][b])
	require.Less(t, 100*time.Microsecond, statpage.BucketLimit(b))
	require.GreaterOrEqual(t, 100*time.Microsecond, statpage.BucketLimit(b-1))
	require.Zero(t, statpage.BucketLimit(statpage.Bucket(time.Hour)))
}

func TestTextIsShown(t *testing.T) {
	c := statpage.OpenConn(&statpage.Traits{Transport: "x", Text: "\x1b[2Jescape \xff\xfe and a text that is much too long for the page"})
	defer c.Free()
	require.Equal(t, "?[2Jescape  and a text that is much too long f", c.Words().Entry().Text)
}

// BenchmarkCount is what a message costs.
func BenchmarkCount(b *testing.B) {
	c := statpage.OpenConn(&statpage.Traits{})
	defer c.Free()
	for b.Loop() {
		c.Sent(64, 1)
		c.Arrived(64)
		c.Read(64)
	}
}

// BenchmarkOpen is what the record of a connection costs.
func BenchmarkOpen(b *testing.B) {
	tr := traits()
	for b.Loop() {
		statpage.OpenConn(&tr).Free()
	}
}
