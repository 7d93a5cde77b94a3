package rdmanet_test

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// extend has a raw peer say that it is of this package, with the flags of the extension.
func extend(flags byte) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, 'i', 'W', 'A', 'R', 1, flags) }
}

const (
	rawWholeRing = 1
	rawWordless  = 8
)

// Bytes that are placed in a virtual ring need no word, and are sent without one to a peer that
// says so.
func TestDataWithoutWords(t *testing.T) {
	p, c, _ := dialRaw(t, nil, extend(rawWordless))
	require.True(t, c.Extended())
	require.Equal(t, byte(rawWholeRing|rawWordless), p.answer[45])

	// Each byte can be read once it is there. Nothing else comes that could wake the Read.
	b := make([]byte, 8)
	for _, piece := range []string{"a", "bc", "def"} {
		read := background(t, func() {
			n, err := c.Read(b)
			if err != nil || string(b[:n]) != piece {
				t.Errorf("Read: %q, %v, want %q", b[:n], err, piece)
			}
		})
		p.place(p.pos, []byte(piece))
		p.pos += uint64(len(piece))
		read()
	}

	// More messages than credits, with the last byte of the space.
	sent := pattern(rawRing / 2)
	for i := 0; i < len(sent); i += 64 {
		_, err := c.Write(sent[i:][:64])
		require.NoError(t, err)
	}
	require.NoError(t, c.CloseWrite())
	p.expect(wordShutdown)
	require.Equal(t, sent, p.ring[:rawRing/2])
}

// A Read that waits while a Write does the work for both learns of what is placed.
func TestPlacedDataWakesAReadThatIsParked(t *testing.T) {
	p, c, _ := dialRaw(t, nil, extend(rawWordless))
	write := background(t, func() {
		if _, err := c.Write(make([]byte, rawRing)); err != nil {
			t.Error(err)
		}
	})
	for i := range byte(20) {
		read := background(t, func() {
			b := make([]byte, 2)
			if n, err := c.Read(b); n != 1 || b[0] != i || err != nil {
				t.Errorf("Read: %d, %v", n, err)
			}
		})
		time.Sleep(time.Millisecond) // not needed for the result: it makes a Read that is parked the usual case
		p.place(uint64(i), []byte{i})
		read()
	}
	p.grant(1, rawRing/2, rawRing/2, rawCredits)
	write()
}

// A peer of this package that does not know that words can be left out sends them, and gets them.
func TestWordsOfAnOlderPeer(t *testing.T) {
	p, c, _ := dialRaw(t, nil, extend(rawWholeRing))
	p.data([]byte("abc"))
	p.data([]byte("def"))
	b := make([]byte, 6)
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, "abcdef", string(b))
	_, err = c.Write([]byte("world"))
	require.NoError(t, err)
	p.expect(5)
	p.send(wordShutdown)
	_, err = c.Read(b)
	require.Equal(t, io.EOF, err)
}

func TestViolationsWithoutWords(t *testing.T) {
	for name, do := range map[string]func(p *rawPeer){
		"a word about data": func(p *rawPeer) { p.place(4, []byte("x")); p.send(1) },
		"more than was granted": func(p *rawPeer) {
			p.place(p.pos, make([]byte, 2*uint64(p.ringLen)-p.pos))
			p.place(0, make([]byte, 1))
		},
		"a gap in the ring":       func(p *rawPeer) { p.place(5, []byte("x")) },
		"bytes placed again":      func(p *rawPeer) { p.place(3, []byte("x")) },
		"an operation in reserve": func(p *rawPeer) { p.send(1<<29 | 1) },
	} {
		t.Run(name, func(t *testing.T) {
			p, c, _ := dialRaw(t, nil, extend(rawWordless))
			p.place(0, []byte("good"))
			p.pos = 4
			done := background(t, func() { do(p) })
			// The Write does the work, so that nothing is read before all is there.
			for err := error(nil); err == nil; {
				_, err = c.Write(make([]byte, rawRing))
			}
			done()
			got, err := io.ReadAll(c)
			requireOpError(t, c, err, "read", syscall.ECONNRESET)
			require.ErrorIs(t, err, rdmanet.ErrProtocol)
			require.GreaterOrEqual(t, len(got), 4, "what came before the fault")
			require.Equal(t, "good", string(got[:4]))
			for err = error(nil); err == nil; {
				_, err = p.next(limit)
			}
			var told *transport.TerminateError
			require.ErrorAs(t, err, &told, "the peer is not told")
		})
	}
	t.Run("data after the end", func(t *testing.T) {
		p, c, _ := dialRaw(t, nil, extend(rawWordless))
		p.send(wordShutdown)
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		p.place(0, []byte("x"))
		_, err = c.Write(make([]byte, rawRing)) // waits for space, and so sees it
		require.ErrorIs(t, err, rdmanet.ErrProtocol)
		n, err := c.Read(make([]byte, 1))
		require.Zero(t, n)
		require.Equal(t, io.EOF, err)
	})
}

// A peer that does not read stops a writer by the number of bytes, not of calls, as with TCP.
func TestManySmallWritesToAPeerThatDoesNotRead(t *testing.T) {
	const writes = 19999
	for name, connect := range map[string]func(testing.TB) (a, b net.Conn){
		"tcp":  twins[0].connect,
		"soft": twins[1].connect,
	} {
		t.Run(name, func(t *testing.T) {
			x, y := connect(t)
			x.SetWriteDeadline(time.Now().Add(limit / 2))
			want := pattern(writes + 1)[:writes]
			for i := range want {
				_, err := x.Write(want[i : i+1])
				require.NoError(t, err, "after %d writes", i)
			}
			got := make([]byte, writes)
			y.SetReadDeadline(time.Now().Add(limit))
			_, err := io.ReadFull(y, got)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}
