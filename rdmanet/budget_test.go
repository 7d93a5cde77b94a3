package rdmanet_test

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
)

// Peers that send without end to connections that nobody reads fill no more than the budget, and
// what each connection cannot do without. Once they are read everything arrives.
func TestBudgetBoundsUnreadBytes(t *testing.T) {
	const (
		limit = 1 << 20
		least = 16 << 10
		pairs = 12
		size  = 2 << 20
	)
	for name, plain := range map[string]bool{"extended": false, "plain": true} {
		t.Run(name, func(t *testing.T) {
			b := rdmanet.NewBudget(limit)
			require.EqualValues(t, limit, b.Limit())
			s := setting{server: rdmanet.Config{Budget: b}, client: rdmanet.Config{Plain: plain}}
			data := pattern(size)
			var all []ends
			var sent []int
			total := 0
			for range pairs {
				e := connect(t, s)
				require.NoError(t, e.a.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
				n, err := e.a.Write(data)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.NoError(t, e.a.SetWriteDeadline(time.Time{}))
				all, sent, total = append(all, e), append(sent, n), total+n
			}
			require.LessOrEqual(t, total, limit+pairs*least)
			require.LessOrEqual(t, b.Held(), uint64(limit+pairs*least))
			for i, e := range all {
				write := background(t, func() {
					_, err := e.a.Write(data[sent[i]:])
					if err = errors.Join(err, e.a.CloseWrite()); err != nil {
						t.Error(err)
					}
				})
				got, err := io.ReadAll(e.b)
				write()
				require.NoError(t, err)
				require.Equal(t, data, got)
				require.NoError(t, e.a.Close())
				require.NoError(t, e.b.Close())
			}
			require.Zero(t, b.Held(), "after Close")
		})
	}
}
