package iwarp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOnePeer takes for one peer what one host can have of addresses.
func TestOnePeer(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::ffff:0:0:2", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::2%eth0", false},
		{"fe80::1%eth0", "fe80::1", true},
		{"::1", "127.0.0.1", false},
		{"64:ff9b::c000:201", "64:ff9b::c000:202", false},
	} {
		a, b := onePeer(netip.MustParseAddr(tc.a)), onePeer(netip.MustParseAddr(tc.b))
		require.Equal(t, tc.same, a == b, "%v and %v", tc.a, tc.b)
	}
}

// TestPeerRate lets a peer have as many new connections at once as in a second, and others theirs.
func TestPeerRate(t *testing.T) {
	s := peerShares{rate: 3}
	now := time.Now()
	peer, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	come := func(a netip.Addr) (n int) {
		for range 10 {
			if s.take(a, nil, now) {
				n++
			}
		}
		return n
	}
	require.Equal(t, 3, come(peer))
	require.Equal(t, 3, come(other))
	require.Zero(t, come(peer))
	now = now.Add(time.Second/3 + time.Millisecond)
	require.Equal(t, 1, come(peer), "those that were refused do not count")
	now = now.Add(time.Hour)
	require.Equal(t, 3, come(peer))
}

// TestPeersAreForgotten remembers no more peers than have something, or have lately come.
func TestPeersAreForgotten(t *testing.T) {
	s := peerShares{most: 2, rate: 1}
	now := time.Now()
	var a [4]byte
	for i := range 10_000 {
		a[2], a[3] = byte(i>>8), byte(i)
		h := &place{setUp: true}
		require.True(t, s.take(netip.AddrFrom4(a), h, now))
		if i >= 10 {
			s.made(h, nil)
		}
		now = now.Add(time.Second)
	}
	require.LessOrEqual(t, len(s.peers), leastSwept+10)
	require.NotNil(t, s.peers[onePeer(netip.AddrFrom4([4]byte{0, 0, 0, 9}))], "it has a connection")
}

// TestClosedAreForgotten remembers few places more than are taken, and looks at them now and then.
func TestClosedAreForgotten(t *testing.T) {
	const most, kept = 5000, 100
	s := peerShares{most: most}
	now := time.Now()
	peer := netip.MustParseAddr("192.0.2.1")
	key := onePeer(peer)
	for i := range 3 * most {
		h := &place{setUp: true}
		require.True(t, s.take(peer, h, now))
		if i >= kept {
			s.made(h, nil)
		}
		require.LessOrEqual(t, len(s.peers[key].held), 2*kept+leastLooked)
	}
	all := make([]*place, 0, most)
	for range most - kept {
		h := &place{setUp: true}
		require.True(t, s.take(peer, h, now))
		all = append(all, h)
	}
	require.False(t, s.take(peer, &place{setUp: true}, now), "all are taken")
	for _, h := range all {
		s.made(h, nil)
	}
	require.False(t, s.take(peer, &place{setUp: true}, now), "it has just looked")
	now = now.Add(most * lookPause)
	require.True(t, s.take(peer, &place{setUp: true}, now))
	require.Len(t, s.peers[key].held, kept+1)
	require.Less(t, cap(s.peers[key].held), most/2)
}

// TestNegativeLimits takes them for none, as it takes zero.
func TestNegativeLimits(t *testing.T) {
	l, err := (&ListenConfig{MaxHalfOpen: -1, MaxConnsPerPeer: -1, MaxConnRatePerPeer: -1}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	require.Zero(t, l.(*Listener).half.limit)
	require.False(t, l.(*Listener).sharing.limits())
}
