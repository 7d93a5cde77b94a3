package ports

import (
	"fmt"

	"github.com/rdmanet/iwarp/internal/bound"
)

// Admit lets a device's own socket, which sets SO_REUSEADDR, bind to the port alongside the socket
// that holds it. The port is closed again by the last call of shut, one of which belongs to each
// call of Admit.
//
// Another process with SO_REUSEADDR can get in meanwhile. Where it listens the device fails, or
// finds out by Stolen; where it does not, it can no longer listen once the port is shut.
func (e *Endpoint) Admit() (shut func(), err error) {
	r := e.port
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.socket
	if s == nil || r.listens {
		return func() {}, nil // nobody can bind alongside a socket that listens
	}
	if r.admitted == 0 {
		if err := s.Admit(true); err != nil {
			return nil, err
		}
	}
	r.admitted++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.admitted--; r.admitted == 0 && r.socket == s {
			if s.Admit(false) != nil {
				r.lost = true // others can come in
			}
		}
	}, nil
}

// Stolen returns an error if somebody who came in while the port was open to a device listens on
// it, or if that cannot be found out. Then no more connections are made from it.
func (e *Endpoint) Stolen() error {
	r := e.port
	r.mu.Lock()
	s := r.socket
	r.mu.Unlock()
	if s == nil {
		return nil
	}
	yes, err := s.ListenedOn()
	if !yes && err == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = true
	if !yes {
		return fmt.Errorf("%w: who else listens on the port cannot be looked up: %w", bound.ErrTaken, err)
	}
	return bound.ErrTaken
}
