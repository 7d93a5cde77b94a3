package iwarp_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/rdmanet"
)

// A rudeClient speaks bytes to a Listener. It has its own encoder, as the library's would not send
// what these tests need.
type rudeClient struct {
	t testing.TB
	*net.TCPConn
}

// streamRequest is an MPA request of revision 1 with CRC, for a stream: one of rsockets with a ring
// of n bytes.
func streamRequest(n uint32) []byte {
	b := append([]byte("MPA ID Req Frame\x40\x01\x00\x28"), make([]byte, 40)...)
	copy(b[20:], []byte{1, 2, 1, 0x80}) // version, flags, credits
	b[20+23] = 2                        // entries of the table
	binary.BigEndian.PutUint32(b[20+36:], n)
	return b
}

// connected goes through the set-up, and sends b then. It returns the private data of the reply.
func (c rudeClient) connected(b []byte) []byte {
	return c.connectedTo(func([]byte) []byte { return b })
}

// connectedTo is connected where what is sent depends on the reply.
func (c rudeClient) connectedTo(f func(private []byte) []byte) []byte {
	_, err := c.Write(streamRequest(64 << 10))
	head := make([]byte, 20)
	if err == nil {
		_, err = io.ReadFull(c, head)
	}
	private := make([]byte, binary.BigEndian.Uint16(head[18:]))
	if err == nil {
		_, err = io.ReadFull(c, private)
	}
	if noError(c.t, err) {
		_, _ = c.Write(f(private))
	}
	return private
}

// fpdu seals a DDP segment (RFC 5044 §4).
func fpdu(segment ...[]byte) []byte {
	b := []byte{0, 0}
	for _, s := range segment {
		b = append(b, s...)
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	b = append(b, make([]byte, -len(b)&3)...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// untagged is the header of a message of one segment (RFC 5041 §4.3).
func untagged(op byte, queue, msn uint32) []byte {
	b := append([]byte{0x41, 0x40 | op}, make([]byte, 16)...)
	binary.BigEndian.PutUint32(b[6:], queue)
	binary.BigEndian.PutUint32(b[10:], msn)
	return b
}

// ended waits for the end of the connection, of whatever kind, and returns what came before.
func (c rudeClient) ended() []byte {
	c.t.Helper()
	b, err := io.ReadAll(c)
	require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded, "the listener keeps the connection")
	return b
}

const terminate = 7 // RDMAP opcode

// TestLimits pushes past each limit that holds for clients, many at a time, and serves honest ones
// meanwhile. Half-open connections have TestHandshakeBound.
func TestLimits(t *testing.T) {
	const many = 24
	empty := append([]byte{0xc1, 0x40, 0, 0, 0, 1}, make([]byte, 8)...) // an RDMA Write of nothing
	other := listen(t, iwarp.ListenConfig{HandshakeTimeout: time.Hour})
	go echo(other)
	patient := dialTCP(t, other)
	_, err := patient.Write(streamRequest(1)[:30])
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		lc    iwarp.ListenConfig
		rude  func(c rudeClient)
		after func(c rudeClient) // once the honest ones are served
	}{
		"set-up time": {
			lc:   iwarp.ListenConfig{HandshakeTimeout: time.Second},
			rude: func(c rudeClient) { _, _ = c.Write(streamRequest(1)[:30]) },
			after: func(c rudeClient) {
				require.Empty(c.t, c.ended())
				require.NoError(c.t, patient.SetReadDeadline(time.Now().Add(time.Millisecond)))
				_, err := patient.Read(make([]byte, 1))
				require.ErrorIs(c.t, err, os.ErrDeadlineExceeded, "the limit is the option's")
			},
		},
		"private data": {
			rude: func(c rudeClient) {
				b := append(streamRequest(64<<10), make([]byte, 513-40)...)
				binary.BigEndian.PutUint16(b[18:], 513)
				_, _ = c.Write(b)
			},
			after: func(c rudeClient) { require.NotContains(c.t, string(c.ended()), "MPA ID Rep Frame\x40\x01\x00\x28") },
		},
		"stalled frames": {
			rude: func(c rudeClient) {
				c.connected([]byte{0xff, 0xff, 0x41})
			},
		},
		"reads": { // the stream serves none, not even of the memory that the peer may write to
			rude: func(c rudeClient) {
				c.connectedTo(func(private []byte) []byte {
					request := make([]byte, 28)
					request[15] = 4                    // bytes
					copy(request[16:20], private[32:]) // the ring's STag
					copy(request[20:28], private[24:]) // and its address
					var all []byte
					for i := range 16 {
						all = append(all, fpdu(untagged(1, 1, uint32(i+1)), request)...)
					}
					return all
				})
			},
			after: func(c rudeClient) {
				got := c.ended()
				require.Equal(c.t, []byte{0x41, 0x47}, got[2:4], "a Terminate comes first")
				require.Equal(c.t, []byte{0x01, 0x02}, got[20:22], "for a right that the peer has not")
			},
		},
		"reads of nothing": { // are answered, as long as they are no more than the peer may have at once
			rude: func(c rudeClient) {
				var all []byte
				for i := range 300 {
					all = append(all, fpdu(untagged(1, 1, uint32(i+1)), make([]byte, 28))...)
				}
				c.connected(all)
			},
			after: func(c rudeClient) {
				require.NoError(c.t, c.CloseWrite())
				got, answers := c.ended(), 0
				for ; len(got) >= 20 && got[3]&15 == 2; answers++ {
					got = got[20:] // an FPDU of 14 bytes
				}
				if len(got) >= 22 {
					require.Equal(c.t, []byte{0x12, 0x02}, got[20:22], "a Terminate for too many at once")
				}
				require.LessOrEqual(c.t, answers, 300)
			},
		},
		"terminates": {
			rude: func(c rudeClient) {
				c.connected(bytes.Repeat(fpdu(untagged(terminate, 2, 1), make([]byte, 4)), 200))
			},
			after: func(c rudeClient) { c.ended() },
		},
		"floods of nothing": {
			rude: func(c rudeClient) {
				c.connected(fpdu(empty))
				_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				_, _ = c.Write(bytes.Repeat(fpdu(empty), 50_000))
			},
		},
		"messages ahead": {
			rude: func(c rudeClient) {
				var word [4]byte
				binary.LittleEndian.PutUint32(word[:], 4<<29|1) // a limit of ours, again and again
				var all []byte
				for i := range 20_000 {
					all = append(all, fpdu(untagged(3, 0, uint32(i+1)), word[:])...)
				}
				c.connected(nil)
				_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				_, _ = c.Write(all)
			},
		},
		"regions": {
			rude: func(c rudeClient) {
				var word [4]byte
				binary.LittleEndian.PutUint32(word[:], 6<<29|200) // that entry 200 of its memory has changed
				c.connected(fpdu(untagged(3, 0, 1), word[:]))
			},
			after: func(c rudeClient) { c.ended() },
		},
		"space": {
			rude: func(c rudeClient) {
				var word [4]byte
				binary.LittleEndian.PutUint32(word[:], 1<<28) // that so many bytes were written
				c.connected(fpdu(untagged(3, 0, 1), word[:]))
			},
			after: func(c rudeClient) { c.ended() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, tc.lc)
			var server sync.WaitGroup
			server.Go(func() { echo(l) })
			var clients sync.WaitGroup
			rude := make([]rudeClient, many)
			for i := range rude {
				rude[i] = rudeClient{t, dialTCP(t, l)}
				clients.Go(func() { tc.rude(rude[i]) })
			}
			for _, policy := range []iwarp.Offload{iwarp.OffloadRequire, iwarp.OffloadNever, iwarp.OffloadRequire} {
				c := dial(t, l, policy)
				exchangeWithEcho(t, c, "hello")
				require.NoError(t, c.Close())
			}
			clients.Wait()
			for _, c := range rude {
				if tc.after != nil {
					tc.after(c)
				}
				require.NoError(t, c.Close())
			}
			require.NoError(t, l.Close())
			server.Wait()
		})
	}
}

// TestUnreadLimits has clients that never stop writing, to a server that reads nothing of theirs.
// They get no more room than ReadBuffer and ReadBudget give, and honest clients are served.
func TestUnreadLimits(t *testing.T) {
	const (
		many   = 8
		buffer = 64 << 10
		least  = 16 << 10 // what a connection has in any case
		budget = 128 << 10
	)
	b := rdmanet.NewBudget(budget)
	l := listen(t, iwarp.ListenConfig{ReadBuffer: buffer, ReadBudget: b})
	next := acceptEach(t, l)
	var clients sync.WaitGroup
	var sent [many]int
	for i := range many {
		c := dial(t, l, iwarp.OffloadRequire)
		next()
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		clients.Go(func() { sent[i], _ = c.Write(make([]byte, 1<<20)) })
	}
	c := dial(t, l, iwarp.OffloadRequire)
	exchange(t, c, next(), "hello")
	clients.Wait()
	total := 0
	for _, n := range sent {
		require.LessOrEqual(t, n, buffer)
		total += n
	}
	require.LessOrEqual(t, total, budget+(many+1)*least)
	require.LessOrEqual(t, b.Held(), uint64(budget+(many+1)*least))
	plain := dial(t, l, iwarp.OffloadNever)
	_, err := io.WriteString(plain, "x")
	require.NoError(t, err)
	s := next()
	_, err = io.ReadFull(s, make([]byte, 1))
	require.NoError(t, err)
	exchange(t, plain, s, "hello")
}
