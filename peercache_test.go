package iwarp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/transport"
)

func peerAt(n int) peer {
	return peer{"soft", netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 1)}
}

func TestPeerCache(t *testing.T) {
	var pc peerCache
	now := time.Unix(1000, 0)
	_, ok := pc.lookup(peerAt(1), now)
	require.False(t, ok)

	for _, r := range []Reason{ReasonDeclined, ReasonLimit, ReasonFailed, ReasonNoDevice} {
		pc.learn(peerAt(1), OffloadError{Reason: r}, false, maxTTL, now, now)
		_, ok = pc.lookup(peerAt(1), now)
		require.False(t, ok, "%v says nothing about the next time", r)
	}

	pc.learn(peerAt(1), OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, now, now)
	why, ok := pc.lookup(peerAt(1), now.Add(peerTTL-1))
	require.True(t, ok)
	require.Equal(t, ReasonNotIWARP, why.Reason)
	_, ok = pc.lookup(peer{"other", peerAt(1).addr}, now)
	require.False(t, ok, "another transport may fare better")
	_, ok = pc.lookup(peerAt(1), now.Add(peerTTL))
	require.False(t, ok)
	_, ok = pc.lookup(peerAt(1), now.Add(2*peerTTL))
	require.False(t, ok)
	require.Empty(t, pc.m, "it was not confirmed in time")
	require.Empty(t, pc.mutes)

	pc.learn(peerAt(1), OffloadError{Reason: ReasonHandshakeTimeout}, false, maxTTL, now, now)
	pc.spoke(peerAt(1), now)
	_, ok = pc.lookup(peerAt(1), now)
	require.False(t, ok)
	require.True(t, pc.speaks(peerAt(1), now.Add(spokeTTL-1)))
	require.False(t, pc.speaks(peerAt(1), now.Add(spokeTTL)))
	require.Empty(t, pc.m)

	for n := range 3 * maxPeers {
		if n%2 == 0 {
			pc.spoke(peerAt(n), now)
		} else {
			pc.learn(peerAt(n), OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, now, now)
		}
		require.LessOrEqual(t, len(pc.m), maxPeers)
		_, ok = pc.lookup(peerAt(n), now)
		require.Equal(t, n%2 != 0, ok, "the latest is there")
	}
	pc.learn(peerAt(4*maxPeers), OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, now.Add(spokeTTL), now.Add(spokeTTL))
	require.Len(t, pc.m, 1, "what is out of date goes first")
	require.Len(t, pc.mutes, 1)
}

// TestConfirmed remembers what is proved for a minute, and twice as long each time that it is
// confirmed, up to an hour.
func TestConfirmed(t *testing.T) {
	var pc peerCache
	now := time.Unix(1000, 0)
	for kept := peerTTL; ; kept = min(2*kept, maxTTL) {
		for _, began := range []time.Time{now, now.Add(-time.Hour)} { // which others have learned meanwhile
			pc.learn(peerAt(1), OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, began, now)
		}
		_, ok := pc.lookup(peerAt(1), now.Add(kept-1))
		require.True(t, ok, kept)
		_, ok = pc.lookup(peerAt(1), now.Add(kept))
		require.False(t, ok, kept)
		if kept == maxTTL {
			break
		}
		now = now.Add(kept + kept/2)
	}
	pc.spoke(peerAt(1), now)
	pc.learn(peerAt(1), OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, now, now)
	_, ok := pc.lookup(peerAt(1), now.Add(peerTTL))
	require.False(t, ok, "it begins anew")
}

// TestConfirmedInHaste remembers what was found in a hurry for no longer than a minute, however
// often it is confirmed.
func TestConfirmedInHaste(t *testing.T) {
	defer SetPassingTTL(time.Second)()
	var pc peerCache
	now := time.Unix(1000, 0)
	for kept := time.Second; kept < 10*peerTTL; kept *= 2 {
		pc.learn(peerAt(1), OffloadError{Reason: ReasonHandshakeTimeout}, false, peerTTL, now.Add(-1), now)
		now = now.Add(min(kept, peerTTL))
		_, ok := pc.lookup(peerAt(1), now.Add(-1))
		require.True(t, ok, kept)
		_, ok = pc.lookup(peerAt(1), now)
		require.False(t, ok, kept)
		now = now.Add(1)
	}
}

// TestHeardFromHost asks all ports of a host anew from which an iWARP request came, but none of
// them more than once in a minute for that.
func TestHeardFromHost(t *testing.T) {
	for _, proof := range []bool{true, false} {
		var pc peerCache
		now := time.Unix(1000, 0)
		at := func(host, port uint16) peer {
			p := peerAt(int(host))
			p.addr = netip.AddrPortFrom(p.addr.Addr(), port)
			return p
		}
		fails := func(p peer) {
			pc.learn(p, OffloadError{Reason: ReasonNotIWARP}, proof, maxTTL, now, now)
		}
		known := func(p peer) bool {
			_, ok := pc.lookup(p, now)
			return ok
		}
		fails(at(1, 80))
		fails(at(1, 81))
		fails(at(2, 80))
		pc.heard(at(3, 0).addr.Addr(), now)
		require.True(t, known(at(1, 80)))
		pc.heard(at(1, 0).addr.Addr(), now)
		require.False(t, known(at(1, 80)))
		require.False(t, known(at(1, 81)))
		require.True(t, known(at(2, 80)))

		now = now.Add(time.Millisecond)
		fails(at(1, 80)) // all the same
		fails(at(1, 82))
		pc.heard(at(1, 0).addr.Addr(), now)
		require.True(t, known(at(1, 80)))
		require.False(t, known(at(1, 82)), "which was learned since")
		now = now.Add(peerTTL)
		fails(at(1, 80))
		pc.heard(at(1, 0).addr.Addr(), now)
		require.False(t, known(at(1, 80)))
	}
}

// TestPassingTrouble remembers what may be a moment's trouble for a second, and longer when it is
// confirmed; where the peer has spoken iWARP, not at all.
func TestPassingTrouble(t *testing.T) {
	defer SetPassingTTL(time.Second)()
	for _, reason := range []Reason{ReasonNotIWARP, ReasonHandshakeTimeout} {
		var pc peerCache
		start := time.Unix(1000, 0)
		fails := func(at, wait time.Duration) {
			pc.learn(peerAt(1), OffloadError{Reason: reason}, false, maxTTL, start.Add(at), start.Add(at+wait))
		}
		known := func(at time.Duration) bool {
			_, ok := pc.lookup(peerAt(1), start.Add(at))
			return ok
		}
		const ms = time.Millisecond
		fails(0, ms)
		require.True(t, known(time.Second))
		require.False(t, known(time.Second+ms))
		fails(0, 2*ms) // one that began at the same time confirms nothing
		require.False(t, known(time.Second+2*ms))
		fails(time.Second+ms, ms)
		require.True(t, known(3*time.Second+ms))
		require.False(t, known(3*time.Second+2*ms))

		at := 3*time.Second + 2*ms
		for range 20 {
			fails(at, ms)
			end := at
			for end += ms; known(end); end += time.Second {
			}
			require.LessOrEqual(t, end-at, maxTTL+time.Second)
			at = end
		}
		at += maxTTL
		fails(at, 200*ms)
		require.True(t, known(at+2*time.Second), "ten times what it took")
		require.False(t, known(at+2200*ms))

		at += time.Hour
		pc.spoke(peerAt(1), start.Add(at))
		require.False(t, known(at))
		fails(at-ms, time.Second) // one that began before
		require.False(t, known(at))
		for step := time.Second; step < maxTrouble; step += time.Second {
			fails(at+step, 0)
			require.False(t, known(at+step))
			require.True(t, pc.speaks(peerAt(1), start.Add(at+step)))
		}
		at += maxTrouble + time.Second
		fails(at, 0)
		require.True(t, known(at), "it may be another one by now")
		require.False(t, pc.speaks(peerAt(1), start.Add(at)))
		require.False(t, known(at+time.Second))

		pc.spoke(peerAt(1), start.Add(at))
		pc.learn(peerAt(1), OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, start.Add(at), start.Add(at))
		require.True(t, known(at), "proof counts at once")
	}
}

// TestGreetingInPlaceOfAnswer has bytes of something else count for a moment against a peer that
// has spoken iWARP, and for good only if the next attempt gets some, too.
func TestGreetingInPlaceOfAnswer(t *testing.T) {
	defer SetPassingTTL(time.Second)()
	var pc peerCache
	now := time.Unix(1000, 0)
	greets := func(began time.Time) {
		pc.learn(peerAt(1), OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, began, now)
	}
	known := func() bool {
		_, ok := pc.lookup(peerAt(1), now)
		return ok
	}
	pc.spoke(peerAt(1), now)
	greets(now.Add(-1))
	require.False(t, known(), "that attempt began before")
	for range 2 { // which do not add up
		greets(now)
		require.True(t, known())
		greets(now) // at the same time
		require.True(t, pc.speaks(peerAt(1), now))
		now = now.Add(time.Second)
		require.False(t, known())
		require.True(t, pc.speaks(peerAt(1), now))
		pc.spoke(peerAt(1), now)
	}
	greets(now)
	now = now.Add(time.Second)
	greets(now)
	require.True(t, known())
	require.False(t, pc.speaks(peerAt(1), now))
	now = now.Add(peerTTL - 1)
	require.True(t, known(), "it is another one")
	now = now.Add(1)
	require.False(t, known())

	pc.spoke(peerAt(1), now)
	pc.learn(peerAt(1), OffloadError{Reason: ReasonDeclined}, true, maxTTL, now.Add(-1), now)
	require.True(t, pc.speaks(peerAt(1), now), "that attempt began before")
	pc.learn(peerAt(1), OffloadError{Reason: ReasonDeclined}, true, maxTTL, now, now)
	require.False(t, pc.speaks(peerAt(1), now), "it says so itself")
}

// TestPeerCacheRedirects remembers where a device listens for a while, until something else is
// learned.
func TestPeerCacheRedirects(t *testing.T) {
	var pc peerCache
	now := time.Unix(1000, 0)
	p := peer{"rnic", netip.MustParseAddrPort("192.0.2.1:80")}
	to := redirect.To{Port: 7174, Service: 80}
	require.Zero(t, pc.redirect(p, now))
	pc.learnRedirect(p, to, now)
	require.Equal(t, to, pc.redirect(p, now.Add(peerTTL-1)))
	_, ok := pc.lookup(p, now)
	require.False(t, ok, "it does speak iwarp")
	require.Zero(t, pc.redirect(peer{"other", p.addr}, now))
	require.Zero(t, pc.redirect(p, now.Add(peerTTL)))
	require.Zero(t, pc.redirect(p, now.Add(spokeTTL)))
	require.Empty(t, pc.m)

	pc.learnRedirect(p, to, now)
	pc.learn(p, OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, now, now)
	require.Zero(t, pc.redirect(p, now))
	pc.learnRedirect(p, to, now)
	pc.forgetRedirect(p)
	require.Zero(t, pc.redirect(p, now))
	pc.learnRedirect(p, to, now)
	pc.spoke(p, now)
	require.Zero(t, pc.redirect(p, now))
}

// TestPeerCacheInstead remembers for which name another address has to do, as long as the first
// does not.
func TestPeerCacheInstead(t *testing.T) {
	var pc peerCache
	now := time.Unix(1000, 0)
	pc.learnInstead(peerAt(1), "a", peerAt(2).addr)
	require.Empty(t, pc.m, "it is not known to be mute")
	pc.learn(peerAt(1), OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, now, now)
	pc.learnInstead(peerAt(1), "a", peerAt(2).addr)
	require.Equal(t, peerAt(2).addr, pc.instead(peerAt(1), "a", now))
	require.Zero(t, pc.instead(peerAt(1), "b", now))
	require.Zero(t, pc.instead(peerAt(1), "a", now.Add(peerTTL)))

	at, took := now, passingTTL/costTimes
	pc.insteadFailed(peerAt(1), "b", peerAt(2).addr, at, at.Add(took)) // others have another by now
	pc.insteadFailed(peerAt(1), "a", peerAt(3).addr, at, at.Add(took))
	require.Equal(t, peerAt(2).addr, pc.instead(peerAt(1), "a", at.Add(took)))
	for _, pause := range []time.Duration{passingTTL, 2 * passingTTL, 4 * passingTTL} {
		pc.m[peerAt(1)].until = at.Add(maxTTL)
		pc.insteadFailed(peerAt(1), "a", peerAt(2).addr, at, at.Add(took))
		pc.insteadFailed(peerAt(1), "a", peerAt(2).addr, at, at.Add(took)) // of a dial at the same time
		require.Zero(t, pc.instead(peerAt(1), "a", at.Add(took+pause-1)))
		at = at.Add(took + pause)
		require.Equal(t, peerAt(2).addr, pc.instead(peerAt(1), "a", at))
	}
	pc.learnInstead(peerAt(1), "a", peerAt(2).addr) // it has not failed
	pc.insteadFailed(peerAt(1), "a", peerAt(2).addr, at, at.Add(took))
	require.Equal(t, peerAt(2).addr, pc.instead(peerAt(1), "a", at.Add(took+passingTTL)))
	pc.spoke(peerAt(1), now)
	require.Zero(t, pc.instead(peerAt(1), "a", now))
}

func TestProof(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("%w: %w", transport.ErrNotIWARP, err) }
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{wrap(errors.New("something else than mpa")), true},
		{wrap(io.EOF), false},
		{wrap(io.ErrUnexpectedEOF), false},
		{wrap(&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}), false},
		{wrap(syscall.EPIPE), false},
		{transport.ErrHandshakeTimeout, false},
		{io.EOF, false},
		{&transport.RejectedError{}, false},
	} {
		require.Equal(t, tt.want, proves(tt.err), "%v", tt.err)
	}
}

// TestAskIsForTheUnknown gives nobody a turn to ask what another dial has found out, not even one
// that did not know it when it began.
func TestAskIsForTheUnknown(t *testing.T) {
	var pc peerCache
	p, now := peerAt(1), time.Now()
	_, end, other := pc.ask(p, now)
	require.NotNil(t, end)
	require.Nil(t, other)
	known, second, other := pc.ask(p, now)
	require.Zero(t, known)
	require.Nil(t, second)
	require.NotNil(t, other)

	pc.learn(p, OffloadError{Reason: ReasonNotIWARP}, true, maxTTL, now, now)
	end()
	<-other
	known, end, other = pc.ask(p, now)
	require.Equal(t, ReasonNotIWARP, known.why.Reason)
	require.Nil(t, end)
	require.Nil(t, other)

	pc.spoke(p, now)
	known, end, _ = pc.ask(p, now)
	require.False(t, known.spoke.IsZero())
	require.Nil(t, end)
}
