//go:build amd64 || arm64

package rnic

// A QueuePair is what the tests know of one beyond the contract.
type QueuePair = queuePair

// Posted returns how many requests were posted to the send queue, with those of this package.
func (q *queuePair) Posted() uint64 { return q.sq.head.Load() }
