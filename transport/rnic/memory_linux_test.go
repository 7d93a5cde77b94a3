//go:build amd64 || arm64

package rnic_test

import (
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic"
)

// resident reports whether the process has memory at b, more than addresses.
func resident(b []byte) bool {
	page := uintptr(os.Getpagesize())
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) &^ (page - 1)
	var vec [1]byte
	_, _, errno := syscall.Syscall(syscall.SYS_MINCORE, at, page, uintptr(unsafe.Pointer(&vec[0])))
	return errno == 0 && vec[0]&1 != 0
}

func TestDeregister(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		b, m := allocate(t, p.a, 1<<20, transport.RemoteWrite|transport.RemoteRead|transport.LocalWrite)
		require.Equal(t, make([]byte, 1<<20), b)
		require.NotZero(t, m.STag())
		post(t, p.a, transport.SendWR{Data: b[:4096], Region: m}) // unsignaled, and still under way
		require.NoError(t, m.Deregister())
		require.False(t, resident(b))
		require.ErrorIs(t, m.Deregister(), transport.ErrClosed)
		require.Equal(t, 4096, next(t, p.b).Bytes)

		n, err := p.a.PostSend([]transport.SendWR{{Data: b[:1], Region: m}})
		require.Zero(t, n)
		require.Error(t, err)
		require.NoError(t, p.a.Err())
	})
}

func TestDeregisterAndTheEnd(t *testing.T) {
	for name, end := range map[string]func(q transport.QueuePair) error{"close": transport.QueuePair.Close, "abort": transport.QueuePair.Abort} {
		t.Run(name, func(t *testing.T) {
			pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
				before, m1 := allocate(t, p.a, 1<<16, transport.RemoteWrite)
				behind, m2 := allocate(t, p.a, 1<<16, transport.RemoteWrite)
				later, m3 := allocate(t, p.a, 1<<16, transport.RemoteWrite)
				require.NoError(t, m1.Deregister())
				require.False(t, resident(before))
				require.NoError(t, end(p.a))
				require.NoError(t, m2.Deregister())
				require.True(t, resident(later))
				gone(t, p.a)
				require.False(t, resident(behind))
				require.True(t, resident(later), "it is its user's until Deregister")
				require.NoError(t, m3.Deregister())
				require.False(t, resident(later))
				_, _, err := p.a.(transport.MemoryAllocator).AllocateMemory(1, 0)
				require.ErrorIs(t, err, transport.ErrClosed)
			})
		})
	}
}

func TestPostRefuses(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		p := connect(t, r, addr, nil, func(q transport.QueuePair) { receives(t, q, 1, 8) })
		b, m := allocate(t, p.a, 64, 0)
		other, om := allocate(t, p.b, 64, transport.LocalWrite)
		for name, wr := range map[string]transport.SendWR{
			"no region":            {Data: b},
			"another queue pair's": {Data: other, Region: om},
			"outside":              {Data: make([]byte, 8), Region: m},
			"one byte too far":     {Data: unsafe.Slice(&b[0], 65), Region: m},
			"long inline":          {Flags: transport.Inline, Data: make([]byte, p.a.Attributes().MaxInline+1)},
			"opcode":               {Opcode: transport.OpRecv},
			"inline read":          {Opcode: transport.OpRead, Flags: transport.Inline, Data: make([]byte, 8)},
		} {
			n, err := p.a.PostSend([]transport.SendWR{{Opcode: transport.OpWrite}, wr, {Opcode: transport.OpWrite}})
			require.Equal(t, 1, n, name)
			require.Error(t, err, name)
		}
		for name, wr := range map[string]transport.RecvWR{
			"no region":            {Data: b},
			"another queue pair's": {Data: other, Region: om},
			"outside":              {Data: make([]byte, 8), Region: m},
		} {
			n, err := p.a.PostRecv([]transport.RecvWR{wr})
			require.Zero(t, n, name)
			require.Error(t, err, name)
		}
		_, err := p.a.RegisterMemory(make([]byte, 8), transport.LocalWrite)
		require.Error(t, err)
		require.NoError(t, p.a.Err())
		post(t, p.a, transport.SendWR{Flags: transport.Inline, Data: []byte("x")})
		require.Equal(t, 1, next(t, p.b).Bytes)
	})
}

func TestPostBeforeConnect(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		l := listen(t, r, addr)
		c, err := r.Dial(limited(t), netip.AddrPort{}, l.Addr(), nil)
		require.NoError(t, err)
		q := c.QueuePair()
		require.Equal(t, transport.StateIdle, q.State())
		_, err = q.PostSend(make([]transport.SendWR, 1))
		require.ErrorIs(t, err, transport.ErrNotConnected)
		require.NoError(t, q.Drain(soon()))
		require.NoError(t, c.Close())
		require.ErrorIs(t, q.Close(), transport.ErrClosed)
		require.ErrorIs(t, q.Err(), transport.ErrClosed)
		gone(t, q)
	})
}

// Access that the peer has not allowed ends the connection for both.
func TestRemoteAccessErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		op     transport.Opcode
		access transport.Access
		stag   transport.STag // is added to the right one
		off    uint64
	}{
		{"write to a wrong stag", transport.OpWrite, transport.RemoteWrite, 0x1000, 0},
		{"write out of bounds", transport.OpWrite, transport.RemoteWrite, 0, 64},
		{"write before the region", transport.OpWrite, transport.RemoteWrite, 0, ^uint64(7)},
		{"write without the right", transport.OpWrite, transport.RemoteRead, 0, 0},
		{"read from a wrong stag", transport.OpRead, transport.RemoteRead, 0x1000, 0},
		{"read out of bounds", transport.OpRead, transport.RemoteRead, 0, 64},
		{"read without the right", transport.OpRead, transport.RemoteWrite, 0, 0},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
				if d.IWARP && c.name == "read without the right" {
					t.Skip("siw of Linux 6.1 answers it")
				}
				x := expose(t, p.b, 64, c.access)
				b, m := allocate(t, p.a, 64, transport.LocalWrite)
				copy(b, pattern(64, 1))
				post(t, p.a, transport.SendWR{ID: 4, Opcode: c.op, Flags: transport.Signaled, Data: b, Region: m,
					RemoteSTag: x.region.STag() + c.stag, RemoteOffset: x.region.Base() + c.off})
				list, err := rest(t, p.a)
				require.NotEmpty(t, list)
				require.Equal(t, uint64(4), list[0].ID)
				if !d.IWARP {
					require.Equal(t, transport.StatusRemoteAccess, list[0].Status)
				} else if c.op == transport.OpRead {
					require.NotEqual(t, transport.StatusSuccess, list[0].Status)
				}
				if d.IWARP && c.op == transport.OpWrite {
					// The Write was sent, which is all that its completion says, and siw tells
					// nobody of the Terminate.
					require.Error(t, err)
				} else {
					require.ErrorIs(t, err, syscall.ECONNRESET)
				}
				_, err = rest(t, p.b)
				require.Error(t, err)
				require.Equal(t, make([]byte, 64), x.mem)
			})
		})
	}
}

func TestSendInvalidate(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		x := expose(t, p.b, 64, transport.RemoteWrite)
		n, err := p.a.PostSend([]transport.SendWR{{Opcode: transport.OpSendInvalidate, Flags: transport.Signaled, Invalidate: x.region.STag()}})
		if n == 0 {
			t.Skip("not with this device: ", err)
		}
		require.NoError(t, err)
		// The kernel lets regions that were registered from user space be used, but not invalidated
		// (rdma(7), fast registration).
		list, err := rest(t, p.b)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Len(t, list, 8)
		require.NotEqual(t, transport.StatusSuccess, list[0].Status)
	})
}

// A Send that is longer than the receive ends the connection.
func TestLongSend(t *testing.T) {
	pairs(t, nil, func(t *testing.T, q transport.QueuePair) { receives(t, q, 1, 8) }, func(t *testing.T, p pair, d transport.Device) {
		b, m := allocate(t, p.a, 64, 0)
		post(t, p.a, transport.SendWR{ID: 4, Flags: transport.Signaled, Data: b, Region: m})
		list, err := rest(t, p.b)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Len(t, list, 1)
		require.NotEqual(t, transport.StatusSuccess, list[0].Status)
		_, err = rest(t, p.a)
		require.Error(t, err)
	})
}
