package flow

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

func sge(addr uint64, key, length uint32) wire.SGE {
	return wire.SGE{Addr: addr, Key: key, Length: length}
}

func newOutbound(credits uint16, ring wire.SGE, extended, wholeRing bool) *Outbound {
	o := &Outbound{Placed: true}
	peer := &wire.ConnData{Credits: credits, Ring: ring}
	if extended {
		peer.Ext = &wire.Extension{WholeRing: wholeRing}
	}
	o.Start(peer, wire.LittleEndian, extended, false)
	return o
}

func writeEntry(o *Outbound, index int, s wire.SGE) {
	var b [wire.SGELen]byte
	wire.LittleEndian.PutSGE(b[:], s)
	o.Place(uint64(wire.SGELen*index), b[:])
}

func TestOutboundFillsSpaceInTurn(t *testing.T) {
	first, second, third := sge(1000, 7, 100), sge(5000, 8, 50), sge(1000, 7, 30)
	o := newOutbound(100, first, true, false)
	require.Equal(t, sge(1000, 7, 60), o.Take(60))
	require.Equal(t, sge(1060, 7, 40), o.Take(60), "a message must not reach beyond the space")
	require.False(t, o.Ready(), "the second space is not there yet")
	require.Zero(t, o.Take(1))

	writeEntry(o, 1, second)
	require.False(t, o.Ready(), "space counts when the word says so")
	require.NoError(t, o.Update(100))
	require.Equal(t, sge(5000, 8, 10), o.Take(10))

	writeEntry(o, 0, third)
	require.NoError(t, o.Update(100))
	require.Equal(t, sge(5010, 8, 40), o.Take(70), "the space begun is filled first")
	require.Equal(t, sge(1000, 7, 30), o.Take(70))
	require.Zero(t, o.Take(1))
	require.Zero(t, o.Take(0))
}

func TestOutboundUpdates(t *testing.T) {
	ring := sge(0, 1, 10)
	t.Run("without space", func(t *testing.T) {
		o := newOutbound(16, ring, true, false)
		require.NoError(t, o.Update(20))
		require.Zero(t, o.target[1])
		require.EqualValues(t, 1, o.next)
	})
	t.Run("empty entry", func(t *testing.T) {
		o := newOutbound(16, ring, true, false)
		writeEntry(o, 1, sge(77, 7, 0))
		require.NoError(t, o.Update(20))
		require.EqualValues(t, 1, o.next, "an entry without space is not taken over")
		writeEntry(o, 1, sge(77, 7, 5))
		require.NoError(t, o.Update(20))
		require.Equal(t, sge(77, 7, 5), o.target[1])
	})
	t.Run("entry in pieces", func(t *testing.T) {
		o := newOutbound(16, ring, true, false)
		var b [wire.SGELen]byte
		wire.LittleEndian.PutSGE(b[:], sge(0x1234, 7, 5))
		o.Place(wire.SGELen+8, b[8:])
		require.NoError(t, o.Update(20))
		require.Zero(t, o.target[1], "half an entry is not taken over")
		o.Place(wire.SGELen, b[:8])
		require.NoError(t, o.Update(20))
		require.Equal(t, sge(0x1234, 7, 5), o.target[1])
	})
	t.Run("two entries before one word", func(t *testing.T) {
		o := newOutbound(16, ring, true, false)
		o.Take(10)
		writeEntry(o, 1, sge(1, 1, 1))
		writeEntry(o, 0, sge(2, 2, 2))
		require.NoError(t, o.Update(20))
		require.Equal(t, [2]wire.SGE{sge(2, 2, 2), sge(1, 1, 1)}, o.target)
	})
	t.Run("entry beyond 64 bits", func(t *testing.T) {
		o := newOutbound(16, ring, true, false)
		writeEntry(o, 1, sge(1<<64-4, 7, 5))
		require.ErrorIs(t, o.Update(20), wire.ErrProtocol)
	})
	t.Run("whole ring", func(t *testing.T) {
		o := newOutbound(16, sge(0, 1, 10), true, true)
		require.Equal(t, [2]wire.SGE{sge(0, 1, 10), sge(10, 1, 10)}, o.target)
		o.Take(10)
		writeEntry(o, 0, sge(0, 1, 10))
		require.NoError(t, o.Update(20))
		require.Equal(t, sge(0, 1, 10), o.target[0])
	})
}

func TestOutboundLimits(t *testing.T) {
	for _, c := range []struct {
		credits, limit, sent, update uint16
		ok                           bool
	}{
		{credits: 384, limit: 384, sent: 0, update: 384, ok: true},
		{credits: 384, limit: 384, sent: 384, update: 768, ok: true},
		{credits: 384, limit: 384, sent: 384, update: 383},
		{credits: 384, limit: 384, sent: 100, update: 300},
		{credits: 384, limit: 100, sent: 65500, update: 101, ok: true},
		{credits: 384, limit: 100, sent: 65500, update: 99},
		{credits: 384, limit: 65500, sent: 65400, update: 100, ok: true},
		{credits: 65534, limit: 65534, sent: 65534, update: 65532, ok: true}, // all of them were used at once
		{credits: 65534, limit: 65534, sent: 65000, update: 65533},
		{credits: 16, limit: 16, sent: 16, update: 1000, ok: true}, // the window grows
		{credits: 16, limit: 16, sent: 16, update: 16 + 1<<15},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			o := newOutbound(c.credits, sge(0, 1, 1<<20), true, false)
			o.limit, o.sent = c.limit, c.sent
			err := o.Update(c.update)
			if c.ok {
				require.NoError(t, err)
				require.Equal(t, c.update, o.limit)
			} else {
				require.ErrorIs(t, err, wire.ErrProtocol)
			}
		})
	}
}

func TestOutboundReserve(t *testing.T) {
	for _, c := range []struct{ credits, usable uint16 }{{0, 0}, {1, 1}, {2, 1}, {16, 8}, {17, 9}, {64, 56}, {384, 336}, {4096, 3584}, {65534, 57343}} {
		o := newOutbound(c.credits, sge(0, 1, 1<<20), false, false)
		n := uint16(0)
		for o.Take(1).Length > 0 {
			n++
		}
		require.Equal(t, c.usable, n, "of %d credits of a plain rsocket", c.credits)
		o = newOutbound(c.credits, sge(0, 1, 1<<20), true, false)
		n = 0
		for o.Take(1).Length > 0 {
			n++
		}
		require.Equal(t, c.credits, n, "of %d credits of a peer that holds receives in reserve", c.credits)
	}
}

// TestInboundGrants follows the worked example of the protocol: a reader with a ring of 131072
// bytes.
func TestInboundGrants(t *testing.T) {
	var in Inbound
	ring := wire.SGE{Addr: 0x7f0000100000, Key: 0x1400, Length: 131072}
	in.Start(ring, 384, 2, false)
	require.True(t, in.SpaceDue(), "the second half is granted first of all")
	require.Equal(t, Grant{Space: sge(0x7f0000110000, 0x1400, 65536), Entry: 16, Limit: 384}, in.Grant(time.Now()))
	require.False(t, in.SpaceDue())
	require.False(t, in.CreditsDue(2))
	for range 7 {
		require.NoError(t, in.Message())
	}
	in.read = 65535
	require.False(t, in.SpaceDue())
	in.read = 102400
	require.True(t, in.SpaceDue())
	require.Equal(t, Grant{Space: sge(0x7f0000100000, 0x1400, 65536), Entry: 0, Limit: 391}, in.Grant(time.Now()))
	require.False(t, in.SpaceDue())
	in.read += 65536
	require.Equal(t, Grant{Space: sge(0x7f0000110000, 0x1400, 65536), Entry: 16, Limit: 391}, in.Grant(time.Now()))
}

func TestInboundCredits(t *testing.T) {
	var in Inbound
	in.Start(wire.SGE{Length: 1 << 20}, 16, 3, true)
	require.False(t, in.SpaceDue(), "the whole ring was granted")
	for i := range 16 {
		require.Equal(t, i >= 8, in.CreditsDue(2), "after %d messages", i)
		require.Equal(t, i >= 4, in.CreditsDue(4), "after %d messages", i)
		require.NoError(t, in.Message())
	}
	require.ErrorIs(t, in.Message(), wire.ErrProtocol, "the seventeenth of 16 messages")
	require.Equal(t, Grant{Limit: 32}, in.Grant(time.Now()))
	in.arrived, in.limit = 1<<16-4, 1<<16-4
	require.Equal(t, Grant{Limit: 12}, in.Grant(time.Now()), "the limit wraps")

	in.read = 1 << 19
	for _, entry := range []uint64{0, 16, 32, 0} {
		require.Equal(t, entry, in.Grant(time.Now()).Entry, "the entries of the peer's table take turns")
		in.read += 1 << 19
	}
}

// An rsocketReader receives as the C library does: it has as many receives as it gives credits,
// posts them again when it polls, and gives credits for what was read.
type rsocketReader struct {
	queue    int // posted receives
	size     int
	arrived  []uint32 // messages not polled
	control  int      // other words not polled
	polled   []uint32 // messages not read
	in       Inbound
	seq, cmp uint16
}

func (r *rsocketReader) poll() {
	r.queue += len(r.arrived) + r.control
	r.polled = append(r.polled, r.arrived...)
	r.arrived, r.control = nil, 0
}

func (r *rsocketReader) read() {
	for _, n := range r.polled {
		r.in.read += uint64(n)
		r.in.arrived++
		r.seq++
	}
	r.polled = nil
}

// update is what the C library does on each pass, with its own conditions.
func (r *rsocketReader) update(o *Outbound) error {
	if !r.in.SpaceDue() && int16(r.seq-r.cmp) < 0 {
		return nil
	}
	r.cmp = r.seq + uint16(r.size/2)
	g := r.in.Grant(time.Now())
	if g.Space.Length > 0 {
		writeEntry(o, int(g.Entry/wire.SGELen), g.Space)
	}
	return o.Update(g.Limit)
}

// TestNeverOverrunsRsocket writes to the model of a plain rsocket until every counter has wrapped:
// its receives must never run out, and the stream must not stall.
func TestNeverOverrunsRsocket(t *testing.T) {
	for _, size := range []int{16, 17, 32, 64, 384, 4096} {
		for _, most := range []int{1, 2048, 65536} {
			t.Run(fmt.Sprintf("credits=%d/messages=%d", size, most), func(t *testing.T) {
				const ring = 131072
				rnd := rand.New(rand.NewPCG(1, uint64(size*most)))
				r := &rsocketReader{queue: size, size: size, cmp: uint16(size / 2)}
				r.in.Start(wire.SGE{Addr: 1 << 20, Length: ring}, uint32(size), 2, false)
				o := newOutbound(uint16(size), wire.SGE{Addr: 1 << 20, Length: ring / 2}, false, false)
				sent := uint64(0)
				for round := 0; sent < 70000; round++ {
					if round == 1<<22 {
						t.Fatalf("stalled after %d messages", sent)
					}
					for {
						to := o.Take(1 + rnd.IntN(most))
						if to.Length == 0 {
							break
						}
						sent++
						r.arrived = append(r.arrived, to.Length)
						if r.queue--; r.queue < 0 {
							t.Fatal("a message found no receive")
						}
						if rnd.IntN(64) == 0 {
							break
						}
					}
					// The reader's own traffic makes us send updates, up to four between two polls.
					for r.control < 4 && rnd.IntN(2) == 0 {
						r.control++
						if r.queue--; r.queue < 0 {
							t.Fatal("a word found no receive")
						}
					}
					if rnd.IntN(2) == 0 || !o.Ready() {
						r.poll()
						require.NoError(t, r.update(o))
						r.read()
						require.NoError(t, r.update(o))
					}
				}
			})
		}
	}
}

// TestFlowModel has the two halves of this package talk to each other, in all ways of cutting the
// stream. The space for it changes all the time in half of the cases.
func TestFlowModel(t *testing.T) {
	const size, least = 4096, 256
	for i := range 4 {
		whole, varies := i%2 == 1, i/2 == 1
		for _, window := range []uint32{1, 16, 300, 1<<15 - 1} {
			t.Run(fmt.Sprintf("whole=%v/varies=%v/window=%d", whole, varies, window), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(2, uint64(window)))
				var in Inbound
				r := Ring{Size: size}
				if varies {
					in.Space.bytes = least
				}
				in.Start(wire.SGE{Addr: 0, Length: size}, window, 2, whole)
				in.arrived -= 1 << 16 // so that they wrap
				in.limit -= 1 << 16
				r.Grant(in.granted)
				o := newOutbound(uint16(window), wire.SGE{Addr: 0, Length: uint32(in.Half())}, true, whole)
				give := func() {
					if varies && in.SpaceDue() {
						in.Space.bytes = max(least, min(size, in.Space.bytes*uint32(1+rnd.IntN(4))/2))
					}
					if in.SpaceDue() || in.CreditsDue(2) {
						g := in.Grant(time.Now())
						if g.Space.Length > 0 {
							r.Grant(uint64(g.Space.Length))
							writeEntry(o, int(g.Entry/wire.SGELen), g.Space)
						}
						require.NoError(t, o.Update(g.Limit))
					}
				}
				give()
				wrote, read, buf := byte(0), byte(0), make([]byte, size)
				for messages := 0; messages < 70000; {
					for o.Ready() && rnd.IntN(8) > 0 {
						to := o.Take(1 + rnd.IntN(64))
						p := buf[:to.Length]
						for i := range p {
							p[i], wrote = wrote, wrote+1
						}
						require.NoError(t, in.Message())
						require.NoError(t, r.Place(to.Addr, p))
						require.NoError(t, r.Announce(uint64(to.Length)))
						messages++
					}
					p := buf[:rnd.IntN(len(buf))]
					n := copyTo(&r, p)
					in.read += uint64(n)
					for _, b := range p[:n] {
						if b != read {
							t.Fatalf("byte is %d, want %d", b, read)
						}
						read++
					}
					give()
					require.True(t, o.Ready() || r.Available() > 0, "stalled")
					require.LessOrEqual(t, in.granted-in.read, uint64(size))
				}
			})
		}
	}
}

// TestHabitOfPlainPeer tells a peer of ours, which leaves a reserve of 8 messages unused, from one
// that is none.
func TestHabitOfPlainPeer(t *testing.T) {
	const window, kept = 64, 8
	type step struct {
		grant  bool // before
		send   int  // messages, then
		watch  bool // what watch returns then
		later  bool // settle is not called yet
		settle bool // what it returns
		done   bool // what exhausted returns
	}
	for name, steps := range map[string][]step{
		"far from it":     {{send: window - kept - 1}},
		"waits":           {{send: window - kept, watch: true, settle: true, done: true}},
		"waits again":     {{send: window - kept, watch: true, settle: true, done: true}, {grant: true, send: window - kept, done: true}},
		"sends on":        {{send: window - kept, watch: true, later: true}, {send: 1}, {send: kept - 1, done: true}},
		"has used them":   {{send: window, done: true}, {grant: true, send: window - kept}},
		"is told":         {{send: window - kept, watch: true, later: true}, {grant: true}, {send: window - kept, watch: true, settle: true, done: true}},
		"uses them later": {{send: window - kept, watch: true, settle: true, done: true}, {send: 1}, {grant: true, send: window - kept}},
	} {
		t.Run(name, func(t *testing.T) {
			var in Inbound
			in.Start(wire.SGE{Length: 4096}, window, 2, false)
			for i, s := range steps {
				if s.grant {
					in.Grant(time.Now())
				}
				for range s.send {
					require.NoError(t, in.Message())
				}
				require.Equal(t, s.watch, in.Watch(), "step %d", i)
				if !s.later {
					require.Equal(t, s.settle, in.Settle(), "step %d", i)
				}
				require.Equal(t, s.done, in.Exhausted(), "step %d", i)
			}
		})
	}
	var none Inbound
	none.Start(wire.SGE{Length: 4096}, 1, 2, false)
	require.NoError(t, none.Message())
	require.False(t, none.Watch(), "there is no reserve of so few")
}
