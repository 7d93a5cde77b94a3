package transport

import (
	"slices"
	"sync"
)

var registry struct {
	sync.RWMutex
	list []Transport
}

// Register adds t to those that Registered returns; a transport of the same name is replaced. It is
// called from init functions of packages that provide a transport. Like Registered, it may be
// called by several goroutines at once.
func Register(t Transport) {
	registry.Lock()
	defer registry.Unlock()
	registry.list = slices.DeleteFunc(slices.Clone(registry.list), func(o Transport) bool { return o.Name() == t.Name() })
	registry.list = append(registry.list, t)
	slices.SortStableFunc(registry.list, func(a, b Transport) int {
		switch {
		case a.Offloads() == b.Offloads():
			return 0
		case a.Offloads():
			return -1
		}
		return 1
	})
}

// Registered returns the registered transports, those that offload first. The slice must not be
// changed.
func Registered() []Transport {
	registry.RLock()
	defer registry.RUnlock()
	return slices.Clip(registry.list)
}
