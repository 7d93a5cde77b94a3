package soft

import "time"

// Impatient returns a Config whose closed connections wait for d, in place of half a minute, for a peer that
// acknowledges nothing.
func Impatient(d time.Duration) *Config { return &Config{linger: d} }

// FailSending has q find that sending has failed.
func FailSending(q *QueuePair, err error) {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	q.sendFailed(err)
}
