//go:build amd64 || arm64

package rnic

import "time"

// A QueuePair is what the tests know of one beyond the contract.
type QueuePair = queuePair

// Posted returns how many requests were posted to the send queue, with those of this package.
func (q *queuePair) Posted() uint64 { return q.sq.head.Load() }

// KeepDevices has the list of devices not be made anew for an hour.
func (t *Transport) KeepDevices() {
	_, _ = t.devices.list()
	t.devices.mu.Lock()
	t.devices.until = time.Now().Add(time.Hour)
	t.devices.mu.Unlock()
}
