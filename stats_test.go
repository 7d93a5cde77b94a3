package iwarp_test

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// TestStats counts what goes over connections of all policies, in both directions.
func TestStats(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			only := []transport.Transport{soft.New(&soft.Config{AlwaysCRC: true})}
			// The short time is for clients that are silent at first.
			lc := iwarp.ListenConfig{FirstByteTimeout: time.Millisecond, Transports: only}
			if policy == iwarp.OffloadPrefer || policy == iwarp.OffloadRequire {
				lc.FirstByteTimeout = patience
			}
			l := listen(t, lc)
			c, s := meet(t, l, func() net.Conn { return dial(t, l, policy) })
			const up, down = 100_000, 3000
			sent := make(chan error, 1)
			go func() {
				_, err := c.Write(make([]byte, up))
				sent <- err
			}()
			_, err := io.ReadFull(s, make([]byte, up))
			require.NoError(t, err)
			require.NoError(t, <-sent)
			_, err = s.Write(make([]byte, down))
			require.NoError(t, err)
			_, err = io.ReadFull(c, make([]byte, down))
			require.NoError(t, err)

			for i, conn := range []net.Conn{c, s} {
				got, ok := iwarp.Stats(conn)
				require.True(t, ok)
				info, _ := iwarp.Describe(conn)
				require.Equal(t, info, got.Info)
				require.Equal(t, netaddr.Of(conn.LocalAddr()), got.Local)
				require.Equal(t, netaddr.Of(conn.RemoteAddr()), got.Remote)
				if info.Transport == "tcp" && runtime.GOOS != "linux" {
					continue
				}
				require.Equal(t, "established", got.State)
				in, out := []uint64{down, up}[i], []uint64{up, down}[i]
				require.Equal(t, in, got.BytesIn)
				require.Equal(t, out, got.BytesOut)
				require.Positive(t, got.MessagesIn)
				require.Positive(t, got.MessagesOut)
				require.Positive(t, got.MaxSegment)
				require.Zero(t, got.Unread)
				require.NoError(t, got.Failure)
				if info.Transport == "tcp" {
					require.Positive(t, got.RoundTrip)
					continue
				}
				require.Equal(t, conn.(*rdmanet.Conn).Stats(), got.Stats)
				require.EqualValues(t, 4<<20, got.RingSize)
				require.True(t, got.CRC)
				require.True(t, got.Extended)
				require.Equal(t, 2, got.MPARevision)
				require.WithinDuration(t, time.Now(), got.Since, time.Minute)
			}

			snapshot := iwarp.Snapshot()
			require.Equal(t, 2, countLocal(snapshot, c)+countLocal(snapshot, s))
			require.NoError(t, c.Close())
			closed, ok := iwarp.Stats(c)
			require.True(t, ok)
			require.Equal(t, "closed", closed.State)
			if closed.Transport != "tcp" {
				require.EqualValues(t, up, closed.BytesOut)
			}
			require.Zero(t, countLocal(iwarp.Snapshot(), c))
		})
	}
	_, ok := iwarp.Stats(nil)
	require.False(t, ok)
}

// countLocal returns how many connections there are at the address of c.
func countLocal(s iwarp.ProcessStats, c net.Conn) (n int) {
	for i := range s.Conns {
		if s.Conns[i].Local == netaddr.Of(c.LocalAddr()) && s.Conns[i].Remote == netaddr.Of(c.RemoteAddr()) {
			n++
		}
	}
	return n
}

// TestStatsBlocked sees a Write that waits, what is unread, and the end.
func TestStatsBlocked(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{ReadBuffer: 64 << 10, FirstByteTimeout: patience})
	c, s := meet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, 1<<20))
		written <- err
	}()
	_, err := io.ReadFull(s, make([]byte, 1)) // has the ring filled
	require.NoError(t, err)
	eventually(t, func() bool {
		got, _ := iwarp.Stats(c)
		return !got.BlockedSince.IsZero()
	}, "a Write that waits")
	got, _ := iwarp.Stats(c)
	require.Less(t, got.BytesOut, uint64(1<<20))
	_, err = io.ReadFull(s, make([]byte, 1<<20-1))
	require.NoError(t, err)
	require.NoError(t, <-written)
	got, _ = iwarp.Stats(c)
	require.Positive(t, got.Blocked)
	require.Positive(t, got.BlockedTimes)
	require.Zero(t, got.BlockedSince)
	require.EqualValues(t, 1<<20, got.BytesOut)

	require.NoError(t, c.(*rdmanet.Conn).CloseWrite())
	got, _ = iwarp.Stats(c)
	require.Equal(t, "write-closed", got.State)
	_, err = s.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	got, _ = iwarp.Stats(s)
	require.Equal(t, "peer-finished", got.State)
}

// TestStatsFailed says what has ended a connection.
func TestStatsFailed(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: patience})
	c, s := meet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
	require.NoError(t, c.(*rdmanet.Conn).SetLinger(0))
	require.NoError(t, c.Close())
	_, err := s.Read(make([]byte, 1))
	require.Error(t, err)
	got, _ := iwarp.Stats(s)
	require.Equal(t, "failed", got.State)
	require.Error(t, got.Failure)
}

// TestSnapshot has listeners, reservations and counts.
func TestSnapshot(t *testing.T) {
	before := iwarp.Snapshot()
	l := listen(t, iwarp.ListenConfig{Offload: iwarp.OffloadRequire})
	c, _ := meet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
	plain, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer plain.Close()
	refused := make(chan struct{})
	go func() {
		_, _ = l.Accept()
		close(refused)
	}()
	_, err = plain.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.NoError(t, err)
	_, err = plain.Read(make([]byte, 1))
	require.Error(t, err)

	snapshot := iwarp.Snapshot()
	var found iwarp.ListenerSnapshot
	for _, i := range snapshot.Listeners {
		if i.Addr == netaddr.Of(l.Addr()) {
			found = i
		}
	}
	require.Equal(t, iwarp.OffloadRequire, found.Policy)
	require.Equal(t, "listening", found.State)
	require.EqualValues(t, 1, found.IWARP)
	require.EqualValues(t, 1, found.Refused)
	require.Equal(t, l.Stats().IWARP, found.IWARP)
	ports := 0
	for _, p := range snapshot.Ports {
		if p.Addr == netaddr.Of(l.Addr()) {
			require.Equal(t, iwarp.PortListening, p.State)
			ports++
		}
	}
	require.Equal(t, 1, ports)
	info, _ := iwarp.Describe(c)
	for _, accepted := range []bool{false, true} {
		require.Equal(t, setups(before, accepted, info.Transport)+1, setups(snapshot, accepted, info.Transport))
	}
	require.NoError(t, l.Close())
	<-refused
	for _, i := range iwarp.Snapshot().Listeners {
		require.NotEqual(t, netaddr.Of(l.Addr()), i.Addr)
	}

	_, err = iwarp.Dial("tcp", l.Addr().String())
	require.Error(t, err)
	failures := func(s iwarp.ProcessStats) (n uint64) {
		for _, f := range s.Failures {
			n += f.Count
		}
		return n
	}
	require.Equal(t, failures(snapshot)+1, failures(iwarp.Snapshot()))
}

func setups(s iwarp.ProcessStats, accepted bool, transport string) (n uint64) {
	for _, i := range s.Setups {
		if i.Accepted == accepted && i.Transport == transport {
			n += i.Count
		}
	}
	return n
}

// TestSnapshotTotals counts what connections and listeners did that are closed.
func TestSnapshotTotals(t *testing.T) {
	before := iwarp.Snapshot()
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: patience})
	c, s := meet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
	exchange(t, c, s, "five!")
	require.NoError(t, c.(*rdmanet.Conn).SetLinger(0))
	require.NoError(t, c.Close())
	_, err := s.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, l.Close())

	check := func(after iwarp.ProcessStats) {
		t.Helper()
		was, is := trafficOf(t, before, "soft"), trafficOf(t, after, "soft")
		require.EqualValues(t, 10, is.BytesIn-was.BytesIn)
		require.EqualValues(t, 10, is.BytesOut-was.BytesOut)
		require.GreaterOrEqual(t, is.Failed, was.Failed+1)
		require.EqualValues(t, 1, after.Clients.IWARP-before.Clients.IWARP)
		require.Len(t, after.SetupTimes, 4)
		for i, now := range after.SetupTimes {
			then := before.SetupTimes[i]
			require.Equal(t, i >= 2, now.Accepted)
			require.Equal(t, i%2 == 0, now.PlainTCP)
			var n uint64
			for b := range now.Counts {
				n += now.Counts[b] - then.Counts[b]
			}
			if now.PlainTCP {
				require.Zero(t, n)
				require.Equal(t, then.Sum, now.Sum)
				continue
			}
			require.EqualValues(t, 1, n)
			require.Greater(t, now.Sum, then.Sum)
		}
	}
	check(iwarp.Snapshot())
	check(iwarp.Snapshot())
}

func trafficOf(t *testing.T, s iwarp.ProcessStats, transport string) iwarp.Traffic {
	for _, i := range s.Traffic {
		if i.Transport == transport {
			return i
		}
	}
	require.Fail(t, "no traffic of "+transport)
	return iwarp.Traffic{}
}
