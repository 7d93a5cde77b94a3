package transporttest

import (
	"bytes"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// Verbs tests what every transport that takes memory of the caller's must do. connect makes a pair.
func Verbs(t *testing.T, connect func(t testing.TB, prepare Setup) Pair) {
	for name, test := range map[string]func(t *testing.T, connect func(t testing.TB, prepare Setup) Pair){
		"Send":                            testSend,
		"WriteThenSend":                   testWriteThenSend,
		"ReadWhileTheOwnerDoesNothing":    testReadWhileTheOwnerDoesNothing,
		"BothEndsOnlyWrite":               testBothEndsOnlyWrite,
		"DeadlineWhileAnotherDrives":      testDeadlineWhileAnotherDrives,
		"Interrupt":                       testInterrupt,
		"CallsOfAQueuePairThatWasAborted": testAborted,
	} {
		t.Run(name, func(t *testing.T) { test(t, connect) })
	}
}

func testSend(t *testing.T, connect func(t testing.TB, prepare Setup) Pair) {
	for _, size := range []int{0, 1, 4, 4095, 16 << 10, 65000, 300000, 1 << 20} {
		var mem []byte
		p := connect(t, func(a, b transport.QueuePair) {
			if b != nil {
				mem = Receives(t, b, 2, size+1)
			}
		})
		data := Random(size)
		done := make(chan struct{})
		go func() {
			defer close(done)
			Post(t, p.A, transport.SendWR{ID: 7, Opcode: transport.OpSend, Data: data, Flags: transport.Inline | transport.Signaled | transport.Solicited})
			require.Equal(t, transport.Completion{ID: 7, Opcode: transport.OpSend}, Next(t, p.A))
		}()
		require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: size, Solicited: true}, Next(t, p.B))
		require.True(t, bytes.Equal(data, mem[:size]), size)
		<-done
	}
}

func testWriteThenSend(t *testing.T, connect func(t testing.TB, prepare Setup) Pair) {
	ring := make([]byte, 4<<20)
	var region transport.MemoryRegion
	p := connect(t, func(a, b transport.QueuePair) {
		if b != nil {
			Receives(t, b, 8, 4)
			region = Register(t, b, ring, transport.RemoteWrite|transport.CallerDriven)
		}
	})
	data := Random(len(ring))
	part := len(ring) / 4
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 4 {
			off := i * part
			Post(t, p.A,
				transport.SendWR{Opcode: transport.OpWrite, Data: data[off : off+part], Flags: transport.Inline,
					RemoteSTag: region.STag(), RemoteOffset: region.Base() + uint64(off)},
				transport.SendWR{Opcode: transport.OpSend, Data: []byte("next"), Flags: transport.Inline})
		}
		require.NoError(t, p.A.Drain(Soon()))
	}()
	for range 4 {
		require.Equal(t, transport.StatusSuccess, Next(t, p.B).Status)
	}
	require.True(t, bytes.Equal(data, ring))
	<-done
}

func testReadWhileTheOwnerDoesNothing(t *testing.T, connect func(t testing.TB, prepare Setup) Pair) {
	src := Random(3 << 20)
	var exposed, local transport.MemoryRegion
	sink := make([]byte, len(src))
	p := connect(t, func(a, b transport.QueuePair) {
		if b != nil {
			exposed = Register(t, b, src, transport.RemoteRead)
		} else {
			local = Register(t, a, sink, transport.LocalWrite)
		}
	})
	const parts = 32
	size := len(src) / parts
	for i := range parts {
		Post(t, p.A, transport.SendWR{ID: uint64(i), Opcode: transport.OpRead, Flags: transport.Signaled, Data: sink[i*size : (i+1)*size],
			Region: local, RemoteSTag: exposed.STag(), RemoteOffset: exposed.Base() + uint64(i*size)})
	}
	for i := range parts {
		require.Equal(t, transport.Completion{ID: uint64(i), Opcode: transport.OpRead, Bytes: size}, Next(t, p.A))
	}
	require.True(t, bytes.Equal(src, sink))
	require.NoError(t, exposed.Deregister())
	require.Error(t, exposed.Deregister())
}

// Two ends that only write must not wait for each other to read.
func testBothEndsOnlyWrite(t *testing.T, connect func(t testing.TB, prepare Setup) Pair) {
	const size, rounds = 512 << 10, 16
	var rings [2]transport.MemoryRegion
	var mem [2][]byte
	p := connect(t, func(a, b transport.QueuePair) {
		i, q := 0, a
		if b != nil {
			i, q = 1, b
		}
		if buffered, ok := q.(transport.Bufferer); ok {
			require.NoError(t, buffered.SetWriteBuffer(64<<10))
		}
		mem[i] = make([]byte, size)
		rings[i] = Register(t, q, mem[i], transport.RemoteWrite|transport.CallerDriven)
		Receives(t, q, 1, 4)
	})
	qs := [2]transport.QueuePair{p.A, p.B}
	var wg sync.WaitGroup
	for i, q := range qs {
		wg.Go(func() {
			data := bytes.Clone(Random(size + i)[:size])
			for n := range rounds {
				data[0] = byte(n)
				wrs := []transport.SendWR{{Opcode: transport.OpWrite, Flags: transport.Inline | transport.WillDrain, Data: data, RemoteSTag: rings[1-i].STag()}}
				if n == rounds-1 {
					wrs = append(wrs, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain})
				}
				if k, err := q.PostSend(wrs); err != nil || k != len(wrs) {
					t.Error(k, err)
				}
				if err := q.Drain(Soon()); err != nil {
					t.Error(err)
				}
			}
			var wc [1]transport.Completion
			for q.Poll(wc[:]) == 0 {
				if err := q.Wait(Soon()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range qs {
		want := bytes.Clone(Random(size + 1 - i)[:size])
		want[0] = rounds - 1
		require.True(t, bytes.Equal(want, mem[i]))
	}
}

func testDeadlineWhileAnotherDrives(t *testing.T, connect func(t testing.TB, prepare Setup) Pair) {
	p := connect(t, func(a, b transport.QueuePair) {
		if b != nil {
			Receives(t, b, 2, 4)
		}
	})
	driving := make(chan error, 1)
	go func() { driving <- p.B.Wait(Soon()) }()
	start := time.Now()
	require.Equal(t, os.ErrDeadlineExceeded, p.B.Wait(start.Add(50*time.Millisecond)))
	require.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
	Post(t, p.A, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("news")})
	require.NoError(t, <-driving)
}

func testInterrupt(t *testing.T, connect func(t testing.TB, prepare Setup) Pair) {
	p := connect(t, nil)
	ended := make(chan error)
	for range 2 {
		go func() { ended <- p.A.Wait(Soon()) }()
	}
	Interrupted(t, p.A, 2, ended)
}

func testAborted(t *testing.T, connect func(t testing.TB, prepare Setup) Pair) {
	p := connect(t, func(a, b transport.QueuePair) {
		if a != nil {
			Receives(t, a, 2, 4)
		}
	})
	ended := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := Finish(t, p.A)
			ended <- err
		}()
	}
	require.NoError(t, p.A.Abort())
	for range 3 {
		require.ErrorIs(t, <-ended, transport.ErrClosed)
	}
	require.ErrorIs(t, p.A.Abort(), transport.ErrClosed)
	require.ErrorIs(t, p.A.Close(), transport.ErrClosed)
	require.Equal(t, transport.StateError, p.A.State())
	_, err := p.A.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}})
	require.ErrorIs(t, err, transport.ErrClosed)
	_, err = p.A.RegisterMemory(make([]byte, 1), 0)
	require.ErrorIs(t, err, transport.ErrClosed)
}
