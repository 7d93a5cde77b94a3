package iwarp

import (
	"cmp"
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/tcpinfo"
	"github.com/rdmanet/iwarp/transport/soft"
)

// TestAnswerTime follows the round trip. On one of 50 ms it covers the second time that the peer's
// kernel sends an answer again.
func TestAnswerTime(t *testing.T) {
	const ms = time.Millisecond
	defer SetAnswerSlack(100 * ms)()
	for trip, want := range map[time.Duration]time.Duration{
		0: 100 * ms, ms / 10: 101 * ms, 5 * ms: 150 * ms, 50 * ms: 600 * ms, 100 * ms: 700 * ms, 300 * ms: 1100 * ms,
	} {
		require.Equal(t, want, answerTime(trip), trip)
	}
}

// TestSilenceRemembered remembers silence as far as the peer had the time for an answer.
func TestSilenceRemembered(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		trip, setting, left, want time.Duration
		spoke                     bool
		slack                     time.Duration // 100 ms if 0
	}{
		{want: maxTTL},
		{trip: 50 * ms, want: maxTTL},
		{trip: 2000 * ms, want: maxTTL},
		{setting: 10 * time.Second, want: maxTTL},
		{setting: 5 * ms},
		{setting: 19 * ms},
		{setting: 20 * ms, want: peerTTL},
		{setting: 99 * ms, want: peerTTL},
		{setting: 100 * ms, want: maxTTL},
		{trip: 50 * ms, setting: 5 * ms},
		{trip: 50 * ms, setting: 199 * ms},
		{trip: 50 * ms, setting: 200 * ms, want: peerTTL},
		{trip: 50 * ms, setting: 650 * ms, want: maxTTL},
		{trip: 50 * ms, setting: 5 * ms, spoke: true},
		{left: 30 * ms},
		{slack: 8 * time.Second, left: 15 * time.Second, want: peerTTL},
		{left: time.Minute, want: maxTTL},
		{trip: 50 * ms, left: 150 * ms},
	} {
		undo := SetAnswerSlack(cmp.Or(tt.slack, 100*ms))
		a := &dialing{Dialer: &Dialer{HandshakeTimeout: tt.setting}, policy: OffloadPrefer}
		ctx := t.Context()
		if tt.left != 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, tt.left)
			defer cancel()
		}
		wait := a.answer(ctx, nil, tt.trip, tt.spoke)
		wait.stop()
		undo()
		require.Equal(t, tt.want, a.waited.remembered(), "%+v", tt)
	}
}

// TestTimeToAsk asks where the time that is left is enough for the answer, and for a plain
// connection after it. The wait leaves the latter its time.
func TestTimeToAsk(t *testing.T) {
	const slack = time.Minute // that the test may take
	for _, tt := range []struct {
		left, trip, first time.Duration
		trips             int
		policy            Offload
		want              bool
	}{
		{trip: time.Hour, trips: 1, policy: OffloadPrefer, want: true},
		{left: time.Hour, trip: time.Hour, trips: 1, policy: OffloadPrefer},
		{left: 2 * time.Hour, trip: time.Hour, trips: 1, policy: OffloadPrefer},
		{left: 3 * time.Hour, trip: time.Hour, trips: 1, policy: OffloadPrefer, want: true},
		{left: 3 * time.Hour, trip: time.Hour, trips: 2, policy: OffloadPrefer},
		{left: 4 * time.Hour, trip: time.Hour, trips: 2, policy: OffloadPrefer, want: true},
		{left: 3 * time.Hour, trip: time.Hour, first: 2 * time.Hour, trips: 1, policy: OffloadPrefer},
		{left: 3 * time.Hour, trip: time.Second, first: 2 * time.Hour, trips: 1, policy: OffloadPrefer, want: true},
		{left: time.Hour, trip: time.Hour, trips: 1, policy: OffloadRequire, want: true},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if tt.left > 0 {
			ctx, cancel = context.WithTimeout(ctx, tt.left)
		}
		defer cancel()
		a := &dialing{Dialer: &Dialer{HandshakeTimeout: 24 * time.Hour}, policy: tt.policy}
		a.first.measured = tt.first
		k := &kernelDial{dialing: a, measured: tt.trip}
		require.Equal(t, tt.want, k.hasTime(ctx, tt.trips), "%+v", tt)
		if !tt.want || tt.left == 0 || tt.policy == OffloadRequire {
			continue
		}
		for _, spoke := range []bool{false, true} {
			for _, a.ahead = range []int{0, 5} {
				wait := a.answer(ctx, nil, tt.trip, spoke)
				wait.stop()
				require.Greater(t, a.waited.limit+slack, tripTime(tt.trip), "%+v", tt)
				require.Less(t, a.waited.limit-slack, tt.left-tripTime(max(tt.trip, tt.first)), "%+v", tt)
			}
		}
	}
}

// TestTurnPatience has a dial wait for another one by the round trip of its connection, however
// long that took to be made.
func TestTurnPatience(t *testing.T) {
	if !tcpinfo.Told {
		t.Skip("the system does not tell the round trip")
	}
	slack, limit := turnSlack, turnLimit
	defer func() { turnSlack, turnLimit = slack, limit }()
	turnSlack, turnLimit = 0, 24*time.Hour
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	k := kernelDial{transport: soft.New(nil)}
	k.use(c.(*net.TCPConn), time.Hour)
	require.Less(t, k.patience(), time.Minute)
	turnLimit = 1
	require.EqualValues(t, 1, k.patience())
}

// TestAnswerWait counts from when the peer has the request.
func TestAnswerWait(t *testing.T) {
	const trip, after = 20 * time.Millisecond, time.Hour
	for name, tt := range map[string]struct {
		info   tcpinfo.Info
		untold bool
		waited time.Duration
		want   time.Duration
	}{
		"not sent yet":    {info: tcpinfo.Info{SinceAck: 2 * after}, waited: 2 * after, want: trip},
		"on its way":      {info: tcpinfo.Info{Sent: true, Unacked: true, SinceAck: 2 * after}, waited: 2 * after, want: trip},
		"there":           {info: tcpinfo.Info{Sent: true, SinceAck: time.Minute}, waited: 2 * after, want: after - time.Minute},
		"there long ago":  {info: tcpinfo.Info{Sent: true, SinceAck: after}, waited: 2 * after},
		"asked just now":  {info: tcpinfo.Info{Sent: true, SinceAck: after}, want: after},
		"untold":          {untold: true, waited: time.Minute, want: after + trip - time.Minute},
		"untold long ago": {untold: true, waited: 2 * after, want: trip - after},
	} {
		t.Run(name, func(t *testing.T) {
			w := &answerWait{trip: trip, after: after, began: time.Now().Add(-tt.waited)}
			w.of = func(*net.TCPConn) (tcpinfo.Info, bool) { return tt.info, !tt.untold }
			require.InDelta(t, tt.want, w.left(), float64(time.Minute/2))
		})
	}
}
