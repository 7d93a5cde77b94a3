package rdmanet_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// deviceKinds are the settings in which both ends have registered memory, and the peer of a device
// which has none.
var deviceKinds = []setting{
	{name: "device"},
	{name: "device plain", client: rdmanet.Config{Plain: true}, server: rdmanet.Config{Plain: true}},
	{name: "immediate", immediate: true},
	{name: "immediate plain", immediate: true, client: rdmanet.Config{Plain: true}},
}

// connectDevicesOf connects two devices of a kind, which change is called for.
func connectDevicesOf(t *testing.T, s setting, change func(*device)) (e ends, a, b *device) {
	var made []*device
	s.wrap = func(qp transport.QueuePair) transport.QueuePair {
		var d *device
		if s.immediate {
			i := newImmediate(qp)
			d, qp = i.device, i
		} else {
			d = newDevice(qp)
			qp = d
		}
		change(d)
		made = append(made, d)
		return qp
	}
	e = connectBelow(t, prepare(t, s, nil), s)
	return e, made[0], made[1]
}

// A connection begins with 64 KiB of registered memory at most. It gets more once it carries much,
// no byte of the stream is lost over that, and everything is given back in the end.
func TestBusyConnectionGetsMoreMemory(t *testing.T) {
	for _, s := range deviceKinds {
		t.Run(s.name, func(t *testing.T) {
			e, a, b := connectDevicesOf(t, s, func(*device) {})
			for _, d := range []*device{a, b} {
				require.LessOrEqual(t, d.bytes.Load(), int64(64<<10))
				require.EqualValues(t, 2, d.regions.Load())
			}
			part := pattern(40 << 10)
			wait := background(t, func() {
				// The writer's send buffer and the reader's ring, whichever turns out to be short first.
				for a.spares.Load() == 0 || b.spares.Load() == 0 {
					if _, err := e.a.Write(part); err != nil {
						t.Error(err)
						break
					}
				}
				for range 32 {
					if _, err := e.a.Write(part); err != nil {
						t.Error(err)
					}
				}
				if err := e.a.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			readPattern(t, e.b, part)
			wait()
			require.EqualValues(t, 1, a.spares.Load(), "the writer has more to send from")
			require.EqualValues(t, 1, b.spares.Load(), "the reader has a larger ring")
			require.EqualValues(t, 256<<10, e.b.Stats().RingSize)
			require.EqualValues(t, 3, a.regions.Load())
			require.EqualValues(t, 3, b.regions.Load())
			require.NoError(t, e.b.Close())
			require.NoError(t, e.a.Close())
			require.Zero(t, a.regions.Load())
			require.Zero(t, b.regions.Load())
		})
	}
}

// A busy connection has all its memory after few bytes, and is then as good as one that had it from
// the start: no Write of a size that divides the memory's is cut at an end of it.
func TestGrownConnectionCutsNoWrites(t *testing.T) {
	const chunk = 64 << 10 // the largest message
	for _, s := range deviceKinds {
		t.Run(s.name, func(t *testing.T) {
			e, a, b := connectDevicesOf(t, s, func(*device) {})
			send := func(size, n int) (messages uint64) {
				before := e.a.Stats().MessagesOut
				part := pattern(size)
				wait := background(t, func() {
					for range n {
						if _, err := e.a.Write(part); err != nil {
							t.Error(err)
							return
						}
					}
				})
				_, err := io.CopyN(io.Discard, e.b, int64(n*size))
				require.NoError(t, err)
				wait()
				return e.a.Stats().MessagesOut - before
			}
			send(chunk, 16)
			require.EqualValues(t, 1, a.spares.Load(), "the writer has more to send from")
			require.EqualValues(t, 256<<10, e.b.Stats().RingSize)
			require.EqualValues(t, 1, b.spares.Load())
			const n = 32
			for size, messages := range map[int]int{chunk / 2: 1, chunk: 1, 2 * chunk: 2} {
				require.EqualValues(t, n*messages, send(size, n), "Writes of %d bytes", size)
			}
		})
	}
}

// readPattern reads part again and again, up to the end of the stream.
func readPattern(t *testing.T, r io.Reader, part []byte) {
	t.Helper()
	got := make([]byte, len(part))
	for {
		_, err := io.ReadFull(r, got)
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		require.True(t, bytes.Equal(part, got))
	}
}

// Where there is no more memory, the connection goes on with what it has.
func TestConnectionDoesWithoutMoreMemory(t *testing.T) {
	for _, s := range deviceKinds {
		t.Run(s.name, func(t *testing.T) {
			e, a, b := connectDevicesOf(t, s, func(d *device) { d.stingy = true })
			part := pattern(40 << 10)
			wait := background(t, func() {
				for range 50 {
					if _, err := e.a.Write(part); err != nil {
						t.Error(err)
						break
					}
				}
				if err := e.a.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			readPattern(t, e.b, part)
			wait()
			require.EqualValues(t, 2, a.regions.Load())
			require.EqualValues(t, 2, b.regions.Load())
		})
	}
}
