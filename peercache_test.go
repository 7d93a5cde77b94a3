package iwarp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
)

func TestPeerCache(t *testing.T) {
	var pc peerCache
	now := time.Unix(1000, 0)
	at := func(n int) peer {
		return peer{"soft", netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 1)}
	}
	_, ok := pc.lookup(at(1), now)
	require.False(t, ok)

	for _, r := range []Reason{ReasonDeclined, ReasonLimit, ReasonFailed, ReasonNoDevice} {
		pc.learn(at(1), OffloadError{Reason: r}, now)
		_, ok = pc.lookup(at(1), now)
		require.False(t, ok, "%v says nothing about the next time", r)
	}

	pc.learn(at(1), OffloadError{Reason: ReasonNotIWARP}, now)
	why, ok := pc.lookup(at(1), now.Add(peerTTL-1))
	require.True(t, ok)
	require.Equal(t, ReasonNotIWARP, why.Reason)
	_, ok = pc.lookup(peer{"other", at(1).addr}, now)
	require.False(t, ok, "another transport may fare better")
	_, ok = pc.lookup(at(1), now.Add(peerTTL))
	require.False(t, ok)
	require.Empty(t, pc.m)

	pc.learn(at(1), OffloadError{Reason: ReasonHandshakeTimeout}, now)
	pc.forget(at(1))
	_, ok = pc.lookup(at(1), now)
	require.False(t, ok)

	for n := range 3 * maxPeers {
		pc.learn(at(n), OffloadError{Reason: ReasonNotIWARP}, now)
		require.LessOrEqual(t, len(pc.m), maxPeers)
		_, ok = pc.lookup(at(n), now)
		require.True(t, ok, "the latest is there")
	}
	pc.learn(at(4*maxPeers), OffloadError{Reason: ReasonNotIWARP}, now.Add(peerTTL))
	require.Len(t, pc.m, 1, "what is out of date goes first")
}

// TestPeerCacheRedirects remembers where a device listens for a while, until something else is learned.
func TestPeerCacheRedirects(t *testing.T) {
	var pc peerCache
	now := time.Unix(1000, 0)
	p := peer{"rnic", netip.MustParseAddrPort("192.0.2.1:80")}
	to := rdmanet.RedirectError{Port: 7174, Service: 80}
	require.Zero(t, pc.redirect(p, now))
	pc.learnRedirect(p, to, now)
	require.Equal(t, to, pc.redirect(p, now.Add(peerTTL-1)))
	_, ok := pc.lookup(p, now)
	require.False(t, ok, "it does speak iwarp")
	require.Zero(t, pc.redirect(peer{"other", p.addr}, now))
	require.Zero(t, pc.redirect(p, now.Add(peerTTL)))
	require.Empty(t, pc.m)

	pc.learnRedirect(p, to, now)
	pc.learn(p, OffloadError{Reason: ReasonNotIWARP}, now)
	require.Zero(t, pc.redirect(p, now))
	pc.learnRedirect(p, to, now)
	pc.forget(p)
	require.Zero(t, pc.redirect(p, now))
}
