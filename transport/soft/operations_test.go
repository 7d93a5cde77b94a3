package soft_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	r.Read(b)
	return b
}

func TestSend(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ao, bo *transport.Options
		crc    bool
	}{
		{name: "crc by default", crc: true},
		{name: "crc asked for by one", ao: &transport.Options{NoCRC: true}, crc: true},
		{name: "no crc", ao: &transport.Options{NoCRC: true}, bo: &transport.Options{NoCRC: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, size := range []int{0, 1, 4, 4095, 65000, 300000} {
				var mem []byte
				p := connect(t, tc.ao, tc.bo, func(a, b transport.QueuePair) {
					if b != nil {
						mem = receives(t, b, 2, size+1)
					}
				})
				data := random(size)
				done := make(chan struct{})
				go func() {
					defer close(done)
					post(t, p.a, transport.SendWR{ID: 7, Opcode: transport.OpSend, Data: data, Flags: transport.Inline | transport.Signaled | transport.Solicited})
					require.Equal(t, transport.Completion{ID: 7, Opcode: transport.OpSend}, next(t, p.a))
				}()
				c := next(t, p.b)
				require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: size, Solicited: true}, c)
				require.True(t, bytes.Equal(data, mem[:size]), size)
				<-done
				require.Equal(t, tc.crc, p.a.Attributes().CRC)
				require.Equal(t, tc.crc, p.b.Attributes().CRC)
			}
		})
	}
}

func TestWriteThenSend(t *testing.T) {
	for _, large := range []int{0, 32 << 10, 65544} {
		ring := make([]byte, 1<<20)
		var region transport.MemoryRegion
		p := connect(t, nil, nil, func(a, b transport.QueuePair) {
			if b != nil {
				receives(t, b, 8, 4)
				var err error
				region, err = b.RegisterMemory(ring, transport.RemoteWrite|transport.CallerDriven)
				require.NoError(t, err)
			}
		})
		if large > 0 {
			require.NoError(t, p.a.SetMaxSegment(large))
		}
		data := random(1 << 20)
		go func() {
			for i := range 4 {
				off := i << 18
				post(t, p.a,
					transport.SendWR{Opcode: transport.OpWrite, Data: data[off : off+1<<18], Flags: transport.Inline,
						RemoteSTag: region.STag(), RemoteOffset: region.Base() + uint64(off)},
					transport.SendWR{Opcode: transport.OpSend, Data: []byte("next"), Flags: transport.Inline})
			}
			require.NoError(t, p.a.Drain(soon()))
		}()
		for range 4 {
			require.Equal(t, transport.StatusSuccess, next(t, p.b).Status)
		}
		require.True(t, bytes.Equal(data, ring))
	}
}

func TestReadWhileTheOwnerDoesNothing(t *testing.T) {
	src := random(3 << 20)
	var exposed, local transport.MemoryRegion
	sink := make([]byte, len(src))
	p := connect(t, nil, nil, func(a, b transport.QueuePair) {
		var err error
		if b != nil {
			exposed, err = b.RegisterMemory(src, transport.RemoteRead)
		} else {
			local, err = a.RegisterMemory(sink, transport.LocalWrite)
		}
		require.NoError(t, err)
	})
	const parts = 32
	size := len(src) / parts
	for i := range parts {
		post(t, p.a, transport.SendWR{ID: uint64(i), Opcode: transport.OpRead, Flags: transport.Signaled, Data: sink[i*size : (i+1)*size],
			Region: local, RemoteSTag: exposed.STag(), RemoteOffset: exposed.Base() + uint64(i*size)})
	}
	for i := range parts {
		require.Equal(t, transport.Completion{ID: uint64(i), Opcode: transport.OpRead, Bytes: size}, next(t, p.a))
	}
	require.True(t, bytes.Equal(src, sink))
	require.NoError(t, exposed.Deregister())
	require.Error(t, exposed.Deregister())
}

func TestDeadlineWhileAnotherDrives(t *testing.T) {
	p := connect(t, nil, nil, func(a, b transport.QueuePair) {
		if b != nil {
			receives(t, b, 2, 4)
		}
	})
	driving := make(chan error, 1)
	go func() { driving <- p.b.Wait(soon()) }()
	start := time.Now()
	err := p.b.Wait(start.Add(50 * time.Millisecond))
	require.ErrorContains(t, err, "i/o timeout")
	require.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
	post(t, p.a, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("news")})
	require.NoError(t, <-driving)
}
