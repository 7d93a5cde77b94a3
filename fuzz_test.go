package iwarp_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/netaddr"
)

// A delivery is what a Listener handed out for a client.
type delivery struct {
	bytes []byte
	err   error
}

// A fuzzedListener reads what its clients send, each to the end.
type fuzzedListener struct {
	net.Listener
	policy iwarp.Offload

	mu  sync.Mutex
	got map[uint16]delivery // by the client's port
}

func fuzzListener(f *testing.F, policy iwarp.Offload) *fuzzedListener {
	l := &fuzzedListener{Listener: listen(f, iwarp.ListenConfig{Offload: policy, HandshakeTimeout: patience, FirstByteTimeout: patience}), policy: policy, got: make(map[uint16]delivery)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { l.serve(c) })
		}
	})
	f.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l
}

// serve reads up to the end, and answers with the number of bytes.
func (l *fuzzedListener) serve(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	l.mu.Lock()
	l.got[netaddr.Of(c.RemoteAddr()).Port()] = delivery{b, err}
	l.mu.Unlock()
	_, _ = c.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
}

// take returns what was handed out for the client of a port.
func (l *fuzzedListener) take(c net.Conn) (d delivery, ok bool) {
	port := netaddr.Of(c.LocalAddr()).Port()
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok = l.got[port]
	delete(l.got, port)
	return d, ok
}

// FuzzListener sends bytes in pieces to a Listener of each policy. A client of plain TCP has its
// bytes delivered, all of them and no others; one that asks for iWARP, and goes on with whatever it
// likes, has no more delivered than it wrote to the ring. Then an honest client is served.
//
// Where sealed, what follows the request is DDP segments, each after a byte with its length, in
// which the markers 0xa1 and 0xa2, four and eight times, stand for the STag and the address of the
// ring.
func FuzzListener(f *testing.F) {
	const key, headLen = "MPA ID Req Frame", 20
	var listeners []*fuzzedListener
	for _, policy := range policies {
		listeners = append(listeners, fuzzListener(f, policy))
	}
	request := streamRequest(64 << 10)
	segments := func(all ...[]byte) []byte {
		b := bytes.Clone(request)
		for _, s := range all {
			b = append(append(b, byte(len(s))), s...)
		}
		return b
	}
	placed := append(append([]byte{0xc1, 0x40}, bytes.Repeat([]byte{0xa1}, 4)...), bytes.Repeat([]byte{0xa2}, 8)...)
	word := func(msn uint32, op byte, v uint32) []byte {
		w := untagged(3, 0, msn)
		return binary.LittleEndian.AppendUint32(w, uint32(op)<<29|v)
	}
	for i := range listeners {
		for _, seed := range [][]byte{
			nil, []byte("GET / HTTP/1.1\r\n\r\n"), []byte(key)[:7], []byte(key), request[:headLen], request, append(bytes.Clone(request), fpdu(untagged(3, 0, 1))...),
			[]byte(key + "\x50\x02\x00\x04\x80\x10\xc0\x10"), []byte(key + "\x80\x01\x00\x00"), []byte("MPA ID Rep Frame\x40\x01\x00\x00"), bytes.Repeat([]byte{'M'}, 5000),
		} {
			f.Add(byte(i), false, []byte{0}, seed)
			f.Add(byte(i), false, []byte{1, 1, 3, 16, 255}, seed)
		}
		f.Add(byte(i), true, []byte{0}, segments(append(bytes.Clone(placed), "hello"...), word(1, 0, 5)))
		f.Add(byte(i), true, []byte{7}, segments(append(bytes.Clone(placed), "hello"...), word(1, 0, 50)))
		f.Add(byte(i), true, []byte{200}, segments(word(1, 4, 1<<10), word(2, 6, 0), word(3, 7, 2), word(4, 7, 0)))
		f.Add(byte(i), true, []byte{0}, segments(append(untagged(1, 1, 1), make([]byte, 28)...), append(untagged(terminate, 2, 1), 0, 0, 0, 0)))
	}
	f.Fuzz(func(t *testing.T, which byte, sealed bool, pieces, in []byte) {
		l := listeners[int(which)%len(listeners)]
		in = in[:min(len(in), 16<<10)]
		c := dialTCP(t, l)
		defer c.Close()
		asks := bytes.HasPrefix(in, []byte(key))
		raw, most := in, 0
		if asks && sealed && len(in) >= headLen && l.policy != iwarp.OffloadNever {
			if n := headLen + int(binary.BigEndian.Uint16(in[headLen-2:])); n <= len(in) {
				send(c, in[:n], pieces)
				raw, most = sealedSegments(in[n:], ringOf(c))
			}
		}
		send(c, raw, pieces)
		_ = c.CloseWrite()
		_, err := io.ReadAll(c)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the listener keeps a client that has left")
		d, handed := l.take(c)
		require.NotErrorIs(t, d.err, os.ErrDeadlineExceeded)
		switch {
		case l.policy == iwarp.OffloadNever, !asks && l.policy != iwarp.OffloadRequire:
			if len(in) > 0 { // one that left without a word need not be told of
				require.True(t, handed)
			}
			require.True(t, bytes.Equal(in, d.bytes), "%q came as %q", in, d.bytes)
		case !asks:
			require.False(t, handed)
		default:
			require.LessOrEqual(t, len(d.bytes), most)
		}

		honest := iwarp.OffloadNever
		if asks && l.policy != honest || l.policy == iwarp.OffloadRequire {
			honest = iwarp.OffloadRequire
		}
		h := dial(t, l, honest)
		defer h.Close()
		_, err = io.WriteString(h, "hello")
		require.NoError(t, err)
		require.NoError(t, h.(interface{ CloseWrite() error }).CloseWrite())
		answer, err := io.ReadAll(h)
		require.NoError(t, err)
		require.Equal(t, []byte{0, 0, 0, 5}, answer)
		d, _ = l.take(h)
		require.Equal(t, "hello", string(d.bytes))
	})
}

// send writes b in pieces of the sizes, again and again; 0 is all of it. Nobody need take it.
func send(c net.Conn, b, sizes []byte) {
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(sizes) > 0 && i < 64 {
			if s := int(sizes[i%len(sizes)]); s > 0 {
				n = min(n, s)
			}
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

// ringOf reads the reply, and returns the address and the STag of the ring that it names.
func ringOf(c net.Conn) (ring [12]byte) {
	reply := make([]byte, 20)
	if _, err := io.ReadFull(c, reply); err != nil {
		return ring
	}
	private := make([]byte, binary.BigEndian.Uint16(reply[18:]))
	if _, err := io.ReadFull(c, private); err != nil || len(private) < 36 {
		return ring
	}
	copy(ring[:], private[24:36])
	return ring
}

// sealedSegments makes FPDUs of segments, and returns how many bytes they may place.
func sealedSegments(b []byte, ring [12]byte) (out []byte, placed int) {
	for len(b) > 0 {
		n := min(int(b[0]), len(b)-1)
		s := bytes.Clone(b[1 : 1+n])
		b = b[1+n:]
		s = bytes.ReplaceAll(s, bytes.Repeat([]byte{0xa1}, 4), ring[8:])
		s = bytes.ReplaceAll(s, bytes.Repeat([]byte{0xa2}, 8), ring[:8])
		out = append(out, fpdu(s)...)
		placed += max(len(s)-14, 0)
	}
	return out, placed
}
