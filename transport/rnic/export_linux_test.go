//go:build amd64 || arm64

package rnic

// Posted returns how many requests were posted to the send queue, with those of this package.
func (q *QueuePair) Posted() uint64 { return q.sq.head.Load() }
