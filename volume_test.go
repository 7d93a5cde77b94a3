package iwarp_test

import (
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

var volume = flag.Int64("volume", 32<<20, "bytes that TestVolume moves each way")

// TestVolume moves many bytes through one connection, both ways at once, and compares their
// digests:
//
//	go test -run Volume -volume 4294967296 .
func TestVolume(t *testing.T) {
	for name, policy := range map[string]iwarp.Offload{"soft": iwarp.OffloadRequire, "fallback": iwarp.OffloadAuto} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{})
			a, b := meet(t, l, func() net.Conn {
				a := dial(t, l, policy)
				go a.Write([]byte("first"))
				return a
			})
			_, err := io.ReadFull(b, make([]byte, len("first")))
			require.NoError(t, err)

			limit := time.Now().Add(patience + time.Duration(*volume/(10<<20))*time.Second)
			require.NoError(t, a.SetDeadline(limit))
			require.NoError(t, b.SetDeadline(limit))
			digests := make(chan [2][]byte, 2)
			for i, c := range [][2]net.Conn{{a, b}, {b, a}} {
				sent := make(chan []byte, 1)
				go func() { sent <- produce(t, c[0], uint64(i)) }()
				go func() { digests <- [2][]byte{consume(t, c[1]), <-sent} }()
			}
			for range 2 {
				d := <-digests
				require.Equal(t, d[0], d[1])
			}
		})
	}
}

// produce writes volume bytes, no two blocks of which are alike, ends the stream and returns the
// digest.
func produce(t *testing.T, c net.Conn, seed uint64) []byte {
	h := sha256.New()
	block := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(block)
	sizes := rand.New(rand.NewPCG(seed, 1))
	for left := *volume; left > 0; {
		binary.LittleEndian.PutUint64(block, uint64(left))
		p := block[:min(left, 1+sizes.Int64N(int64(len(block))))]
		_, _ = h.Write(p)
		if _, err := c.Write(p); !noError(t, err) {
			break
		}
		left -= int64(len(p))
	}
	noError(t, c.(interface{ CloseWrite() error }).CloseWrite())
	return h.Sum(nil)
}

// consume reads to the end of the stream and returns the digest.
func consume(t *testing.T, c net.Conn) []byte {
	h := sha256.New()
	n, err := io.Copy(h, c)
	if noError(t, err) && n != *volume {
		t.Errorf("%d bytes arrived of %d", n, *volume)
	}
	return h.Sum(nil)
}
