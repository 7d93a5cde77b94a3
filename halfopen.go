package iwarp

import (
	"container/list"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// halfOpen is a connection that is not made out yet.
type halfOpen struct {
	c      *net.TCPConn // nil for a device's request
	cancel context.CancelFunc
	phase  phase
	cut    bool // its time was cut short for want of room
	elem   *list.Element
}

type phase uint8

const (
	sniffing phase = iota
	shaking        // an MPA request is read and answered
	decided
)

// halfOpenSet holds half-open connections in the order of their arrival.
type halfOpenSet struct {
	mu   sync.Mutex
	list list.List // of *halfOpen
}

func (s *halfOpenSet) add(h *halfOpen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.elem = s.list.PushBack(h)
}

func (s *halfOpenSet) remove(h *halfOpen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list.Remove(h.elem)
}

// enter moves h to a phase. What waits in that phase is ended by cancel. It reports whether the phase before was cut short.
func (s *halfOpenSet) enter(h *halfOpen, p phase, cancel context.CancelFunc) (cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cut, h.cut = h.cut, false
	h.phase, h.cancel = p, cancel
	return cut
}

// cutOldest ends the wait for the oldest connection that has not sent enough yet, or else for the oldest handshake,
// and counts it first.
func (s *halfOpenSet) cutOldest(count *atomic.Uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range []phase{sniffing, shaking} {
		for e := s.list.Front(); e != nil; e = e.Next() {
			if h := e.Value.(*halfOpen); h.phase == p && !h.cut {
				h.cut = true
				count.Add(1)
				h.end()
				return
			}
		}
	}
}

// wake ends every wait.
func (s *halfOpenSet) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.list.Front(); e != nil; e = e.Next() {
		e.Value.(*halfOpen).end()
	}
}

func (h *halfOpen) end() {
	switch h.phase {
	case sniffing:
		_ = h.c.SetReadDeadline(time.Unix(1, 0))
	case shaking:
		h.cancel()
	}
}
