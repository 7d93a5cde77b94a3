//go:build race || !amd64

package statpage

import "sync/atomic"

func store(w *atomic.Uint64, n uint64) { w.Store(n) }
