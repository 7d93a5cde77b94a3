package soft_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// asksForRTR is a peer that waits for an RTR frame, in the form of a Write or of a Read.
func asksForRTR(read bool) role {
	return role{frame: mpa.Frame{Revision: mpa.Rev2, Flags: mpa.FlagEnhanced | mpa.FlagCRC,
		Enhanced: mpa.Enhanced{IRD: 16, ORD: 16, PeerToPeer: true, RTRWrite: !read, RTRRead: read}}}
}

// sizes of FPDUs with CRC.
const (
	emptyWriteLen  = mpa.LengthLen + 14 + mpa.CRCLen
	readRequestLen = mpa.LengthLen + 18 + 28 + mpa.CRCLen
)

// TestRTRWithData sends the RTR frame and the first data by one system call: the peer finds all of
// it in its socket as soon as it finds some.
func TestRTRWithData(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("one write need not be found by one read")
	}
	defer soft.HoldRTR(time.Hour)()
	for name, tt := range map[string]struct {
		read bool
		size int
	}{
		"write":             {false, 100},
		"read":              {true, 100},
		"write, large data": {false, 20_000},
		"read, large data":  {true, 20_000},
	} {
		t.Run(name, func(t *testing.T) {
			q, p, _ := asksForRTR(tt.read).initiator(t)
			require.NoError(t, q.SetMaxSegment(64<<10))
			require.True(t, q.(transport.EarlySender).PeerMaySend())
			posted, left := q.(transport.NowWriter).WriteNow(7, 0, make([]byte, tt.size))
			require.True(t, posted)
			require.False(t, left)
			buf := make([]byte, 64<<10)
			n, err := p.c.Read(buf)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, emptyWriteLen+tt.size)
			first, ok := mpa.Peek(buf[:n])
			require.True(t, ok)
			want := emptyWriteLen
			if tt.read {
				want = readRequestLen
			}
			require.Equal(t, want, first)
		})
	}
}

// TestRTRAlone sends the RTR frame without data to a peer that needs FPDUs aligned with segments,
// before a call that waits or looks, and when no data comes.
func TestRTRAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		hold time.Duration
		act  func(t *testing.T, q transport.QueuePair)
	}{
		"aligned": {time.Hour, func(t *testing.T, q transport.QueuePair) {
			require.True(t, q.(transport.EarlySender).PeerMaySend())
		}},
		"wait": {time.Hour, func(t *testing.T, q transport.QueuePair) {
			require.NoError(t, q.SetMaxSegment(64<<10))
			waited := make(chan error, 1)
			go func() { waited <- q.Wait(soon()) }()
			t.Cleanup(func() {
				q.Interrupt()
				require.Equal(t, transport.ErrInterrupted, <-waited)
			})
		}},
		"wait without end": {time.Hour, func(t *testing.T, q transport.QueuePair) {
			require.NoError(t, q.SetMaxSegment(64<<10))
			waited := make(chan error, 1)
			go func() { waited <- q.Wait(time.Time{}) }()
			t.Cleanup(func() {
				q.Interrupt()
				require.Equal(t, transport.ErrInterrupted, <-waited)
			})
		}},
		"look": {time.Hour, func(t *testing.T, q transport.QueuePair) {
			require.NoError(t, q.SetMaxSegment(64<<10))
			require.False(t, q.(transport.Looker).Look())
		}},
		"close": {time.Hour, func(t *testing.T, q transport.QueuePair) { require.NoError(t, q.Close()) }},
		"no data": {time.Millisecond, func(t *testing.T, q transport.QueuePair) {
			require.NoError(t, q.SetMaxSegment(64<<10))
			require.True(t, q.(transport.EarlySender).PeerMaySend())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			defer soft.HoldRTR(tt.hold)()
			q, p, _ := asksForRTR(false).initiator(t)
			tt.act(t, q)
			require.Equal(t, rdmap.OpWrite, p.next().Op)
		})
	}
}
