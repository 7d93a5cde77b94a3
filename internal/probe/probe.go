// Package probe finds out by trying what the running system can do.
package probe

import "sync"

// Once returns a function that returns what try found out. It tries until there is an answer: an
// error, such as a lack of descriptors, says nothing about the system, and counts as false for that
// one call.
func Once(try func() (bool, error)) func() bool {
	var mu sync.Mutex
	var known, answer bool
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		if !known {
			v, err := try()
			answer, known = v, err == nil
		}
		return answer
	}
}
