package iwarp

// MaxHalfOpen and MaxReady are the bounds of a Listener.
const (
	MaxHalfOpen = maxHalfOpen
	MaxReady    = maxReady
)

// PathCount returns how many connections Describe remembers.
func PathCount() int {
	n := 0
	paths.Range(func(any, any) bool { n++; return true })
	return n
}

// ForgetPeers empties the cache of peers that do not speak iWARP.
func ForgetPeers() {
	peers.mu.Lock()
	defer peers.mu.Unlock()
	clear(peers.m)
}
