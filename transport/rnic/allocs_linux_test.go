//go:build (amd64 || arm64) && !race

package rnic_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// Posting, polling and waiting allocate nothing.
func TestAllocs(t *testing.T) {
	pairs(t, nil, nil, func(t *testing.T, p pair, d transport.Device) {
		b, m := allocate(t, p.b, 64, transport.LocalWrite)
		out, om := allocate(t, p.a, 64, 0)
		recv := []transport.RecvWR{{Data: b, Region: m}}
		send := []transport.SendWR{
			{Flags: transport.Inline, Data: out[:8]},
		}
		region := []transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Signaled, Data: out, Region: om}}
		var wc [4]transport.Completion
		await := func(q transport.QueuePair) {
			for q.Poll(wc[:]) == 0 {
				if err := q.Wait(soon()); err != nil {
					panic(err)
				}
			}
		}
		for name, wrs := range map[string][]transport.SendWR{"inline": send, "region": region} {
			one := func() {
				if n, _ := p.b.PostRecv(recv); n != 1 {
					panic("receive")
				}
				if n, _ := p.a.PostSend(wrs); n != 1 {
					panic("send")
				}
				await(p.b)
				if wrs[0].Flags&transport.Signaled != 0 {
					await(p.a)
				} else if err := p.a.Drain(soon()); err != nil {
					panic(err)
				}
			}
			for range 100 {
				one()
			}
			require.Zero(t, testing.AllocsPerRun(500, one), name)
		}
		require.Zero(t, testing.AllocsPerRun(100, func() { p.a.Poll(wc[:]) }))
	})
}
