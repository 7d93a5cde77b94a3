package soft

import (
	"container/list"
	"sync"
)

// A keeper holds the partings of the process, of which there is a bounded number: each has a
// descriptor that the application has closed.
type keeper struct {
	mu     sync.Mutex
	oldest list.List // of *parting
	plain  int       // closed for want of room after everything was handed to the kernel
	reset  int       // reset for want of room
	least  int       // that are kept, whatever most says
	most   func() int
}

var partings = keeper{least: partingsLeast, most: maxPartings}

const (
	partingsLeast = 16
	partingsMost  = 1024
	partingsShare = 16 // of the descriptors that the process may have
)

func maxPartings() int {
	return int(max(min(openFiles()/partingsShare, partingsMost), partingsLeast))
}

// add takes p. When there are too many, the oldest one whose bytes the kernel has gives way, as the
// kernel goes on with these as with those of any closed socket; if there is none, the oldest of all
// does.
func (k *keeper) add(p *parting) {
	k.mu.Lock()
	p.place = k.oldest.PushBack(p)
	var victim *parting
	if n := k.oldest.Len(); n > k.least && n > k.most() {
		victim = k.victim()
		k.oldest.Remove(victim.place)
	}
	k.mu.Unlock()
	if victim != nil {
		victim.cut()
	}
}

// victim chooses which one gives way. The caller holds mu.
func (k *keeper) victim() *parting {
	for e := k.oldest.Front(); e != nil; e = e.Next() {
		if p := e.Value.(*parting); p.handed.Load() && !p.q.awaited.Load() {
			k.plain++
			return p
		}
	}
	k.reset++
	return k.oldest.Front().Value.(*parting)
}

func (k *keeper) remove(p *parting) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.oldest.Remove(p.place)
}
