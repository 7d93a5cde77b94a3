package iwarp_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestOneDialAsks checks that a peer about which nothing is known is asked once, by however many
// dials at once; the others take plain TCP without an answer, or once it is there.
func TestOneDialAsks(t *testing.T) {
	const dials = 1000
	for _, waits := range []bool{false, true} {
		name := map[bool]string{false: "others go on", true: "others wait"}[waits]
		t.Run(name, func(t *testing.T) {
			iwarp.ForgetPeers()
			asked := make(chan struct{}) // closed once a request has come
			var once sync.Once
			var others sync.WaitGroup // dials besides the one that asks
			s := newLegacyServer(t, func(c *net.TCPConn, _ []byte) {
				once.Do(func() { close(asked) })
				if !waits {
					others.Wait()
				}
				_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
				untilGone(c)
			})
			defer iwarp.SetTurnSlack(map[bool]time.Duration{false: 0, true: patience}[waits])()
			reasons := make(map[iwarp.Reason]int)
			var mu sync.Mutex
			dial := func() {
				// However long the answer takes, as that may have to wait for a thousand dials.
				c, err := (&iwarp.Dialer{Offload: iwarp.OffloadPrefer, HandshakeTimeout: patience}).Dial("tcp", s.Addr().String())
				if !noError(t, err) {
					return
				}
				defer c.Close()
				info, _ := iwarp.Describe(c)
				mu.Lock()
				defer mu.Unlock()
				reasons[info.Reason]++
			}
			others.Add(dials - 1)
			var all sync.WaitGroup
			all.Go(dial)
			<-asked
			for range dials - 1 {
				all.Go(func() {
					defer others.Done()
					dial()
				})
			}
			all.Wait()
			require.EqualValues(t, 1, s.requests.Load())
			want := map[iwarp.Reason]int{iwarp.ReasonNotIWARP: 1, iwarp.ReasonAsking: dials - 1}
			if waits {
				want = map[iwarp.Reason]int{iwarp.ReasonNotIWARP: dials}
			}
			require.Equal(t, want, reasons)
		})
	}
}

// waitsForTurn reports whether a dial waits for another one to ask.
func waitsForTurn() bool {
	stacks := make([]byte, 1<<20)
	return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("iwarp.(*dialing).turn("))
}

// TestTurnEndsInTime has a dial that waits for another one to ask return the error of its context
// when that is canceled, and a plain connection before its deadline.
func TestTurnEndsInTime(t *testing.T) {
	for name, tt := range map[string]struct {
		slack, timeout time.Duration
		err            error
	}{
		"canceled": {time.Hour, 0, context.Canceled},
		"deadline": {time.Hour, patience / 5, nil},
	} {
		t.Run(name, func(t *testing.T) {
			iwarp.ForgetPeers()
			asked, answer := make(chan struct{}), make(chan struct{})
			s := newLegacyServer(t, func(c *net.TCPConn, _ []byte) {
				close(asked)
				<-answer
				_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
				untilGone(c)
			})
			defer iwarp.SetTurnSlack(tt.slack)()
			first := background(t, func() {
				c, err := (&iwarp.Dialer{Offload: iwarp.OffloadPrefer, HandshakeTimeout: patience}).Dial("tcp", s.Addr().String())
				if noError(t, err) {
					_ = c.Close()
				}
			})
			<-asked
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var waits sync.WaitGroup
			waits.Go(func() {
				c, err := (&iwarp.Dialer{Offload: iwarp.OffloadPrefer, Timeout: tt.timeout}).DialContext(ctx, "tcp", s.Addr().String())
				if tt.err == nil && noError(t, err) {
					info, _ := iwarp.Describe(c)
					assert.Equal(t, iwarp.ReasonAsking, info.Reason)
					_ = c.Close()
				} else if tt.err != nil {
					assert.Nil(t, c)
					assert.EqualError(t, errors.Unwrap(err), "operation was canceled")
				}
			})
			if tt.err != nil {
				eventually(t, func() bool { return waitsForTurn() }, "a dial that waits")
				cancel()
			}
			background(t, waits.Wait)()
			close(answer)
			first()
		})
	}
}

// TestOthersWaitForIWARP has dials that wait for the one that asks go the way that it has found.
func TestOthersWaitForIWARP(t *testing.T) {
	iwarp.ForgetPeers()
	defer iwarp.SetTurnSlack(patience)()
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: patience})
	go echo(l)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			c, err := (&iwarp.Dialer{Offload: iwarp.OffloadPrefer}).Dial("tcp", l.Addr().String())
			if !noError(t, err) {
				return
			}
			defer c.Close()
			info, _ := iwarp.Describe(c)
			noError(t, c.SetDeadline(time.Now().Add(patience)))
			if info.Transport != "soft" {
				t.Errorf("plain tcp: %v", info.Reason)
			}
		})
	}
	all.Wait()
}

// TestRequestIsNews asks a peer anew once an iWARP request has come from its host.
func TestRequestIsNews(t *testing.T) {
	s := newLegacyServer(t, func(c *net.TCPConn, _ []byte) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
	for range 3 {
		require.Equal(t, iwarp.ReasonNotIWARP, describe(t, dial(t, s, iwarp.OffloadPrefer)).Reason)
	}
	require.EqualValues(t, 1, s.requests.Load())
	l := listen(t, iwarp.ListenConfig{})
	meet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
	for range 3 {
		require.Equal(t, iwarp.ReasonNotIWARP, describe(t, dial(t, s, iwarp.OffloadPrefer)).Reason)
	}
	require.EqualValues(t, 2, s.requests.Load())
}
