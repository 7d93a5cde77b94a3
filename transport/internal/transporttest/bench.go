package transporttest

import (
	"fmt"
	"testing"

	"github.com/rdmanet/iwarp/transport"
)

// PingPong measures a Write and a Send each way, as the stream protocol above does it.
func PingPong(b *testing.B, connect func(t testing.TB, prepare Setup) Pair) {
	for _, size := range []int{64, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			var rings [2]transport.MemoryRegion
			var words [2]transport.MemoryRegion
			var slots [2][]byte
			p := connect(b, func(x, y transport.QueuePair) {
				i, q := 0, x
				if y != nil {
					i, q = 1, y
				}
				rings[i], _ = q.RegisterMemory(make([]byte, size), transport.RemoteWrite|transport.CallerDriven)
				slots[i] = make([]byte, 16)
				words[i], _ = q.RegisterMemory(slots[i], transport.LocalWrite)
				_, _ = q.PostRecv([]transport.RecvWR{{Data: slots[i][:4], Region: words[i]}})
			})
			turn := func(q transport.QueuePair, i int, data []byte, wrs []transport.SendWR) {
				wrs[0] = transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline | transport.WillDrain, Data: data, RemoteSTag: rings[1-i].STag()}
				wrs[1] = transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: data[:4]}
				_, _ = q.PostSend(wrs)
				_ = q.Drain(Soon())
			}
			wait := func(q transport.QueuePair, i int, wc []transport.Completion, rr []transport.RecvWR) bool {
				for q.Poll(wc) == 0 {
					if q.Wait(NoDeadline) != nil {
						return false
					}
				}
				rr[0] = transport.RecvWR{Data: slots[i][:4], Region: words[i]}
				_, _ = q.PostRecv(rr)
				return wc[0].Status == transport.StatusSuccess
			}
			go func() {
				data, wrs, wc, rr := make([]byte, size), make([]transport.SendWR, 2), make([]transport.Completion, 1), make([]transport.RecvWR, 1)
				for wait(p.B, 1, wc, rr) {
					turn(p.B, 1, data, wrs)
				}
			}()
			data, wrs, wc, rr := make([]byte, size), make([]transport.SendWR, 2), make([]transport.Completion, 1), make([]transport.RecvWR, 1)
			b.ReportAllocs()
			for b.Loop() {
				turn(p.A, 0, data, wrs)
				wait(p.A, 0, wc, rr)
			}
		})
	}
}
