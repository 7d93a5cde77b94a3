package iwarp

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// assisted has an assistant take clients of l, and returns what ends it and is closed at its end.
func assisted(t *testing.T, l *Listener) (stop context.CancelFunc, ended <-chan struct{}) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	before := l.assistantsNow()
	go func() {
		defer close(done)
		l.assist(ctx)
	}()
	comes(t, func() bool { return l.assistantsNow() == before+1 })
	return cancel, done
}

func (l *Listener) assistantsNow() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.assistants
}

func comes(t *testing.T, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, time.Millisecond)
}

// TestAssistantGivesWay to a call of Accept, and goes on after it.
func TestAssistantGivesWay(t *testing.T) {
	listener, err := Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	l := listener.(*Listener)
	stop, ended := assisted(t, l)
	client := func() {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, err = io.WriteString(c, "plain")
		require.NoError(t, err)
	}
	for range 3 {
		accepted := make(chan net.Conn)
		go func() {
			c, _ := l.Accept()
			accepted <- c
		}()
		client()
		c := <-accepted
		require.NotNil(t, c)
		require.NoError(t, c.Close())

		client()
		comes(t, func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.ready) == 1
		})
		c, err = l.Accept()
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	stop()
	<-ended
}

// TestAssistantsLeaveEachOtherAlone has the one with the turn keep it while others come and go.
func TestAssistantsLeaveEachOtherAlone(t *testing.T) {
	l, err := Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	stop, ended := assisted(t, l.(*Listener))
	for range 200 {
		stop, ended := assisted(t, l.(*Listener))
		stop()
		<-ended
	}
	select {
	case <-ended:
		t.Fatal("it has ended")
	default:
	}
	stop()
	<-ended
}

// TestAssistantThatIsTooLate takes nothing once its context has ended: nobody would call it back.
func TestAssistantThatIsTooLate(t *testing.T) {
	l, err := Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	may, over := l.(*Listener).mayAssist(ctx)
	require.False(t, may)
	require.True(t, over)
}
