package rdmanet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"
	"testing"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// FuzzPeer lets a peer say and place anything. Whatever it does, no byte is given out that was not
// placed and announced, in order; no more memory is held than it was granted; and what is taken to
// be sent lies in the space that it granted.
func FuzzPeer(f *testing.F) {
	word := func(op wire.Opcode, v uint32) []byte {
		return binary.LittleEndian.AppendUint32([]byte{0}, uint32(wire.MakeWord(op, v)))
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	f.Add(join([]byte{1, 5, 0}, word(wire.OpData, 5), []byte{3, 9}))
	f.Add(join([]byte{1, 200, 7}, word(wire.OpData, 100), []byte{4, 50}, word(wire.OpData, 100), []byte{3, 255}))
	f.Add(join(append([]byte{2, 1}, "\x00\x10\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x40\x00\x00\x00"...), word(wire.OpLimit, 20), []byte{5, 255, 5, 255}))
	f.Add(join(append([]byte{2, 143}, "\x10\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x40\x00\x00\x00\x00"...),
		word(wire.OpIomap, 0), word(wire.OpIomap, wire.IomapRevoked)))
	f.Add(join(word(wire.OpIomap, 1), word(wire.OpCtrl, wire.CtrlShutdown), word(wire.OpCtrl, wire.CtrlDisconnect), word(wire.OpData, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 1000)]
		const size = 1024
		c := &Conn{extended: true, stage: *newTestStage(t, 512)}
		c.ring.Size = size
		c.ring.Grant(size)
		c.in.Start(wire.SGE{Length: size}, 16, 2, true)
		c.out.Placed = true
		c.out.Start(&wire.ConnData{Credits: 16, Ring: wire.SGE{Addr: 1 << 20, Length: 64}, Ext: &wire.Extension{}}, wire.LittleEndian, true, false)
		next := func(n int) []byte {
			p := make([]byte, n)
			b = b[copy(p, b):]
			return p
		}
		var placed, read []byte
		announced, waits := 0, false
		buf := make([]byte, 64)
		for len(b) > 0 {
			var err error
			switch next(1)[0] % 6 {
			case 0:
				w := decode(next(4))
				if err = c.message(w); err == nil && w.Op() == wire.OpData {
					announced += int(w.Value())
				}
			case 1: // places bytes, mostly where they belong
				h := next(2)
				p := bytes.Repeat([]byte{byte(len(placed) + 1)}, int(h[0]))
				off := uint64(len(placed)) % size
				if h[1]%8 == 1 {
					off += uint64(h[1])
				}
				if off+uint64(len(p)) > size {
					continue // the transport refuses this
				}
				if err = c.ring.Place(off, p); err == nil {
					placed = append(placed, p...)
				}
			case 2:
				if at := next(1)[0]; at < 128 {
					c.out.Place(uint64(at%2*wire.SGELen), next(wire.SGELen))
				} else {
					p := next(int(at%wire.IomapEntryLen) + 1)
					off := uint64(next(1)[0]) % (wire.IomapTableLen - wire.IomapEntryLen)
					if _, err = (&placer{c: weak.Make(c)}).Place(c.ring.Size+wire.TableLen+off, p); err != nil {
						t.Fatal(err)
					}
				}
			case 3:
				n := readFrom(&c.ring, buf[:next(1)[0]%64])
				read = append(read, buf[:n]...)
				c.in.Consumed(n)
			case 4: // a Read that waits
				c.ring.Attach(buf[:1+next(1)[0]%63])
				waits = true
			case 5:
				to := c.out.Take(int(next(1)[0]))
				if to.Addr+uint64(to.Length) < to.Addr {
					t.Fatalf("space wraps: %+v", to)
				}
			}
			if err != nil {
				if !errors.Is(err, wire.ErrProtocol) || !errors.Is(err, syscall.ECONNRESET) {
					t.Fatalf("error of the wrong kind: %v", err)
				}
				return
			}
			if waits && len(b)%2 == 0 {
				waits = false
				n := c.ring.Detach()
				read = append(read, buf[:n]...)
				c.in.Consumed(n)
			}
			if c.maps != nil {
				for i := range c.maps.Entries {
					e := &c.maps.Entries[i]
					if wire.Wraps(e.Addr, uint64(e.Length)) || wire.Wraps(e.Offset, uint64(e.Length)) {
						t.Fatalf("exposed memory wraps: %+v", e)
					}
				}
			}
			if c.grantDue(2) {
				c.ring.Grant(uint64(c.in.Grant(time.Now()).Space.Length))
			}
			switch {
			case announced > len(placed):
				t.Fatalf("%d bytes announced, %d placed", announced, len(placed))
			case len(read) > announced:
				t.Fatalf("%d bytes read, %d announced", len(read), announced)
			case !bytes.Equal(read, placed[:len(read)]):
				t.Fatal("read other bytes than were placed")
			case len(placed)-len(read) > size:
				t.Fatalf("holds %d bytes", len(placed)-len(read))
			}
		}
	})
}

func decode(b []byte) wire.Word { return wire.Word(wire.LittleEndian.Uint32(b)) }
