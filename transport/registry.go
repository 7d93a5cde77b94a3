package transport

import (
	"slices"
	"sync"
	"sync/atomic"
)

var registry struct {
	mu   sync.Mutex
	list atomic.Pointer[[]Transport] // which is never changed, only replaced
}

// Register adds t to those that Registered returns; a transport of the same name is replaced. It is
// called from init functions of packages that provide a transport. Like Registered, it may be
// called by several goroutines at once.
func Register(t Transport) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(Registered()), func(o Transport) bool { return o.Name() == t.Name() })
	list = append(list, t)
	slices.SortStableFunc(list, func(a, b Transport) int {
		switch {
		case a.Offloads() == b.Offloads():
			return 0
		case a.Offloads():
			return -1
		}
		return 1
	})
	list = slices.Clip(list)
	registry.list.Store(&list)
}

// Registered returns the registered transports, those that offload first. The slice must not be
// changed.
func Registered() []Transport {
	if list := registry.list.Load(); list != nil {
		return *list
	}
	return nil
}
