package soft

// FailSending has q find that sending has failed.
func FailSending(q *QueuePair, err error) {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	q.sendFailed(err)
}
