package soft_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// A catcher is a Placer with a buffer for what comes next, as a Read has one. What does not fit is
// kept elsewhere.
type catcher struct {
	mem    []byte
	filled int
	rest   []byte
	at     uint64 // where the next bytes belong
	asked  int    // for a place
	aimed  int    // bytes that were there before they were placed

	refuses bool // what comes from now on
}

func (c *catcher) Target(off uint64, n int) []byte {
	if off != c.at || n > len(c.mem)-c.filled {
		return nil
	}
	c.asked++
	return c.mem[c.filled:][:n]
}

func (c *catcher) Place(off uint64, p []byte) (bool, error) {
	if off != c.at || c.refuses {
		return false, os.ErrInvalid
	}
	c.at += uint64(len(p))
	to := c.mem[c.filled:]
	n := min(len(to), len(p))
	if n > 0 && &to[0] == &p[0] {
		c.aimed += n
	} else {
		copy(to, p)
	}
	c.filled += n
	c.rest = append(c.rest, p[n:]...)
	return true, nil
}

// take returns what has come, and makes room for n bytes in place of the buffer.
func (c *catcher) take(n int) (old, got []byte) {
	old = c.mem
	got = slices.Concat(c.mem[:c.filled], c.rest)
	c.mem, c.filled, c.rest = make([]byte, n), 0, nil
	return old, got
}

func catching(t *testing.T, cfg *soft.Config, frame mpa.Frame) (*catcher, transport.STag, transport.QueuePair, *rawPeer) {
	c := &catcher{}
	var stag transport.STag
	q, p, _ := role{cfg: cfg, frame: frame, prepare: func(q transport.QueuePair) {
		r, err := q.(transport.PlacerRegistrar).RegisterPlacer(1<<40, c)
		require.NoError(t, err)
		stag = r.STag()
	}}.responder(t)
	return c, stag, q, p
}

var noCRC = mpa.Frame{Revision: mpa.Rev2, Flags: mpa.FlagEnhanced, Enhanced: mpa.Enhanced{IRD: 16, ORD: 16}}

// Large payloads arrive whole and in order, however they are cut and whenever a Wait ends, and
// nothing touches the buffer of one that has ended.
func TestAim(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg   *soft.Config
		frame mpa.Frame
	}{
		"crc":    {},
		"no crc": {cfg: &soft.Config{NoCRC: true}, frame: noCRC},
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			c, stag, q, p := catching(t, tc.cfg, tc.frame)
			var sent, stream []byte
			add := func(n int) {
				b := pattern(random, n)
				stream = append(stream, tagged(rdmap.OpWrite, random.IntN(2) == 0, stag, uint64(len(sent)), b)...)
				sent = append(sent, b...)
			}
			for len(sent) < 4<<20 {
				add([]int{1, 64, 128, 5000, 12 << 10, 32747, 65512}[random.IntN(7)])
				// A row of those that are alike, with one in it that is not.
				lead, size := []int{0, 1, 64, 300}[random.IntN(4)], []int{12 << 10, 32 << 10}[random.IntN(2)]
				for i, other := 0, random.IntN(8); i < 6; i++ {
					if i == other {
						add([]int{3, lead + 1, lead + 4, size - 1}[random.IntN(4)])
					} else if lead > 0 {
						add(lead)
					}
					add(size)
				}
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				random := rand.New(rand.NewPCG(3, 4))
				for len(stream) > 0 {
					n := min(len(stream), 1+random.IntN([]int{20, 3000, 200_000}[random.IntN(3)]))
					if _, err := p.c.Write(stream[:n]); err != nil {
						return
					}
					stream = stream[n:]
				}
			}()
			var got []byte
			type past struct{ mem, was []byte }
			var all []past
			for len(got) < len(sent) {
				deadline := soon()
				if random.IntN(4) == 0 {
					deadline = time.Now().Add(time.Duration(random.IntN(100)) * time.Microsecond)
				}
				err := q.Wait(deadline)
				if err != os.ErrDeadlineExceeded {
					require.NoError(t, err)
				}
				mem, b := c.take([]int{0, 100, 32<<10 + 64, 64 << 10, 200 << 10}[random.IntN(5)])
				got = append(got, b...)
				all = append(all, past{mem, slices.Clone(mem)})
			}
			<-done
			require.True(t, bytes.Equal(sent, got))
			for _, p := range all {
				require.True(t, bytes.Equal(p.was, p.mem), "a buffer was touched after its Wait")
			}
		})
	}
}

func pattern(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// After a large payload the next one is read to where it belongs.
func TestAimHits(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("nothing is aimed at here")
	}
	t.Parallel()
	const n = 65_512
	c, stag, q, p := catching(t, nil, mpa.Frame{})
	for i := range uint64(4) {
		c.take(n)
		go p.write(write(stag, i*n, make([]byte, n)))
		require.NoError(t, q.Wait(soon()))
		require.Equal(t, n, c.filled)
	}
	require.Equal(t, 3*n, c.aimed)
}

// A call that has got the end of a large payload, and expects another, leaves the buffer of its
// caller alone once it has returned.
func TestAimEndsWithTheCall(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(t *testing.T, q transport.QueuePair){
		"another call": func(*testing.T, transport.QueuePair) {},
		"close":        func(t *testing.T, q transport.QueuePair) { require.NoError(t, q.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			const n, last = 20_000, 1000
			c, stag, q, p := catching(t, nil, mpa.Frame{})
			b := pattern(rand.New(rand.NewPCG(1, 2)), n)
			at := uint64(0)
			next := func() []byte { at += n; return write(stag, at-n, b) }
			get := func() {
				for c.filled+len(c.rest) < n {
					require.NoError(t, q.Wait(soon()))
				}
			}
			for range 5 {
				c.take(n)
				p.write(next())
				get()
			}
			c.take(0)
			f := next()
			p.write(f[:n-last])
			for q.(interface{ Look() bool }).Look() { // until that is in staging
			}
			c.take(4 * n)
			p.write(f[n-last:])
			get()
			mem, got := c.take(100)
			require.Equal(t, b, got)
			was := slices.Clone(mem)
			after(t, q)
			p.write(next())
			if name != "close" {
				get()
			}
			require.Never(t, func() bool { return !bytes.Equal(was, mem) }, 50*time.Millisecond, 10*time.Millisecond)
		})
	}
}

// What is like those before is read to where it belongs by one call, before its header is there.
func TestAimGuesses(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("nothing is aimed at here")
	}
	t.Parallel()
	const lead, n = 64, 65_472
	c, stag, q, p := catching(t, nil, mpa.Frame{})
	b := pattern(rand.New(rand.NewPCG(1, 2)), lead+n)
	send := func(at uint64) { p.write(slices.Concat(write(stag, at, b[:lead]), write(stag, at+lead, b[lead:]))) }
	for i := range uint64(8) {
		c.take(lead + n)
		if i < 4 {
			go send(i * (lead + n))
		} else {
			send(i * (lead + n)) // all of it is there when Wait begins
		}
		for c.filled+len(c.rest) < lead+n {
			require.NoError(t, q.Wait(soon()))
		}
		require.True(t, bytes.Equal(b, c.mem))
	}
	require.GreaterOrEqual(t, c.aimed, 6*n)
}

// Nothing is placed of a large FPDU in which a bit is wrong, or that does not come to its end.
func TestAimAtWhatIsWrong(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("nothing is aimed at here")
	}
	t.Parallel()
	const n = 20_000
	last := 16 + n + mpa.CRCLen - 1
	for name, tc := range map[string]struct {
		flip, cut int // the byte with the wrong bit; how much of the FPDU comes
		is        string
	}{
		"stag":             {flip: 4, is: "CRC"},
		"offset":           {flip: 15, is: "CRC"},
		"first of payload": {flip: 16, is: "CRC"},
		"middle":           {flip: 16 + n/2, is: "CRC"},
		"last of payload":  {flip: last - mpa.CRCLen, is: "CRC"},
		"sum":              {flip: last, is: "CRC"},
		"no payload":       {cut: 16, is: "unexpected EOF"},
		"half of it":       {cut: 16 + n/2, is: "unexpected EOF"},
		"no sum":           {cut: last - 3, is: "unexpected EOF"},
		"half of the sum":  {cut: last - 1, is: "unexpected EOF"},
	} {
		for rounds := range uint64(5) { // before that; after some of them it is guessed
			t.Run(fmt.Sprint(name, " after ", rounds+1), func(t *testing.T) {
				c, stag, q, p := catching(t, nil, mpa.Frame{})
				b := make([]byte, n)
				for i := range rounds + 1 {
					c.take(2 * n)
					p.write(write(stag, i*n, b))
					for c.filled < n {
						require.NoError(t, q.Wait(soon()))
					}
				}
				asked := c.asked
				bad := write(stag, (rounds+1)*n, b)
				if tc.flip > 0 {
					bad[tc.flip] ^= 1
				}
				if tc.cut > 0 {
					bad = bad[:tc.cut]
				}
				p.write(bad)
				require.NoError(t, p.c.CloseWrite())
				err := q.Wait(soon())
				if tc.is == "CRC" {
					require.ErrorAs(t, err, new(*transport.TerminateError))
					require.EqualValues(t, mpa.CodeCRC, p.terminated().Code)
				} else {
					require.Equal(t, io.ErrUnexpectedEOF, err)
				}
				require.Equal(t, n, c.filled)
				require.Greater(t, c.asked, asked)
			})
		}
	}
}

// What is refused of a Write that was aimed at its place is told to the peer as that of any other.
func TestAimRefused(t *testing.T) {
	t.Parallel()
	const n = 20_000
	var told [2]transport.TerminateError
	for i, aimed := range []bool{false, true} {
		c, stag, q, p := catching(t, nil, mpa.Frame{})
		c.take(3 * n)
		p.write(write(stag, 0, make([]byte, n)))
		require.NoError(t, q.Wait(soon()))
		c.refuses = true
		if !aimed {
			c.take(0)
		}
		asked := c.asked
		p.write(write(stag, n, make([]byte, n)))
		var te *transport.TerminateError
		require.ErrorAs(t, q.Wait(soon()), &te)
		told[i] = *te
		if runtime.GOOS != "windows" {
			require.Equal(t, aimed, c.asked > asked)
		}
		m := p.terminated()
		require.EqualValues(t, 14+n, m.SegLen, "aimed %v", aimed)
	}
	require.Equal(t, told[0], told[1])
}

// A Write to where the peer may not write is refused as it is when it is small.
func TestAimAtNothing(t *testing.T) {
	t.Parallel()
	c, stag, q, p := catching(t, nil, mpa.Frame{})
	c.take(1 << 20)
	p.write(write(stag, 0, make([]byte, 20_000)))
	require.NoError(t, q.Wait(soon()))
	p.write(write(stag+1, 20_000, make([]byte, 20_000)))
	require.ErrorAs(t, q.Wait(soon()), new(*transport.TerminateError))
	require.EqualValues(t, rdmap.ErrInvalidSTagTagged.Code, p.terminated().Code)
	require.Equal(t, 20_000, c.filled)
}
