//go:build amd64 || arm64

package rnic_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic"
)

// Many more empty Writes than the queue holds are sent, and nobody is told.
func TestKeepAlive(t *testing.T) {
	pairs(t, &transport.Options{SendDepth: 4}, nil, func(t *testing.T, p pair, d transport.Device) {
		q := p.a.(*rnic.QueuePair)
		before := q.Posted()
		require.NoError(t, q.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 2 * time.Millisecond, Interval: time.Hour, Count: 1}))
		require.Eventually(t, func() bool { return q.Posted() > before+50 }, limit, 5*time.Millisecond)
		require.NoError(t, q.SetKeepAliveConfig(net.KeepAliveConfig{}))
		require.Eventually(t, func() bool {
			n := q.Posted()
			time.Sleep(20 * time.Millisecond)
			return q.Posted() == n
		}, limit, time.Millisecond)
		require.Zero(t, q.Poll(make([]transport.Completion, 4)))
		require.NoError(t, q.Err())
		require.NoError(t, p.b.Err())
		require.Zero(t, p.b.Poll(make([]transport.Completion, 4)))

		require.NoError(t, q.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 2 * time.Millisecond}))
		require.NoError(t, q.Close())
		require.ErrorIs(t, q.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}), net.ErrClosed)
		require.NoError(t, p.b.Close())
		gone(t, q)
	})
}
