package frames

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A source is one without a connection.
type source struct{ at atomic.Pointer[Trace] }

func (s *source) SwapTrace(before, now *Trace) bool { return s.at.CompareAndSwap(before, now) }
func (s *source) FrameTraits() Traits               { return Traits{Initiator: true} }
func (s *source) FrameReader() func(*Frame) Text    { return func(*Frame) Text { return Text{} } }

// sources has Start find a source for each local port.
func sources(t *testing.T) map[uint16]*source {
	all := make(map[uint16]*source)
	find := Find
	t.Cleanup(func() {
		Find = find
		for _, tr := range All() {
			tr.Stop()
		}
		traces.list = nil
	})
	Find = func(local, _ netip.AddrPort) (Source, error) {
		if local.Port() == 0 {
			return nil, ErrPlain
		}
		if all[local.Port()] == nil {
			all[local.Port()] = new(source)
		}
		return all[local.Port()], nil
	}
	return all
}

func addr(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
}

func TestLimits(t *testing.T) {
	all := sources(t)
	tr, err := Start(addr(1), addr(99), Limits{Frames: 3, Time: time.Hour})
	require.NoError(t, err)
	require.Equal(t, MostTime, tr.Time)
	head := []byte("head")
	for range 5 {
		tr.Add(true, false, 100, head)
	}
	head[0] = 'x'
	list, ended := tr.Frames()
	require.Len(t, list, 3)
	require.Equal(t, "head", string(list[2].Data))
	require.Equal(t, 100, list[2].Size)
	require.NotEmpty(t, ended)
	require.Nil(t, all[1].at.Load(), "frames still go to a trace that has ended")

	tr, err = Start(addr(1), addr(99), Limits{Frames: MostFrames, Time: time.Hour, Payload: true})
	require.NoError(t, err)
	require.Same(t, tr, all[1].at.Load())
	big := make([]byte, 64<<10)
	for range mostBytes/len(big) + 2 {
		tr.Add(false, false, len(big), big[:10], big[10:])
	}
	list, ended = tr.Frames()
	require.Len(t, list, mostBytes/len(big))
	require.Contains(t, ended, "no room")
	require.Nil(t, all[1].at.Load())
}

func TestTimeIsOver(t *testing.T) {
	all := sources(t)
	tr, err := Start(addr(1), addr(99), Limits{})
	require.NoError(t, err)
	require.Equal(t, Limits{Frames: 1, Time: time.Second}, tr.Limits)
	tr.timer.Reset(0)
	require.Eventually(t, func() bool { _, ended := tr.Frames(); return ended != "" }, 10*time.Second, time.Millisecond)
	require.Nil(t, all[1].at.Load())
}

func TestHowMany(t *testing.T) {
	all := sources(t)
	_, err := Start(addr(0), addr(99), Limits{})
	require.ErrorIs(t, err, ErrPlain)
	limits := Limits{Frames: 10, Time: time.Minute}
	for i := range most {
		_, err := Start(addr(i+1), addr(99), limits)
		require.NoError(t, err)
	}
	_, err = Start(addr(most+1), addr(99), limits)
	require.ErrorIs(t, err, errBusy)
	again, err := Start(addr(2), addr(99), limits) // in place of its own
	require.NoError(t, err)
	require.Same(t, again, all[2].at.Load())
	require.Same(t, again, Of(addr(2), addr(99)))
	Of(addr(3), addr(99)).Stop()
	_, err = Start(addr(most+1), addr(99), limits) // in place of one that has ended
	require.NoError(t, err)
	require.Nil(t, Of(addr(3), addr(99)))
	require.Len(t, All(), most)
}
