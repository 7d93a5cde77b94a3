package ports

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/sockdiag"
)

// conflictInterval is how often Follow tries again to get a port that somebody else has.
const conflictInterval = time.Second

// Follow keeps a set of all the host's addresses up to date until ctx ends or the set is released.
func (s *Set) Follow(ctx context.Context) error {
	if !s.all {
		return &net.OpError{Op: "follow", Net: "tcp", Err: errors.ErrUnsupported}
	}
	w, err := sockdiag.Watch()
	if err != nil {
		return &net.OpError{Op: "follow", Net: "tcp", Err: err}
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	defer stop()
	go func() {
		select {
		case <-s.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		if err := s.reconcile(ctx); err != nil {
			return &net.OpError{Op: "follow", Net: "tcp", Err: err}
		}
		wait := time.Hour
		if len(s.Conflicts()) > 0 {
			wait = conflictInterval
		}
		if err := w.Wait(wait); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return &net.OpError{Op: "follow", Net: "tcp", Err: err}
		}
	}
}

// reconcile makes the set match the host's current addresses.
func (s *Set) reconcile(ctx context.Context) error {
	addrs, err := netaddr.OfHost()
	if err != nil {
		return err
	}
	for _, r := range s.Members() {
		if !slices.ContainsFunc(addrs, r.has) {
			_ = r.Release()
		}
	}
	s.mu.Lock()
	for a := range s.conflicts {
		if !slices.Contains(addrs, a) {
			delete(s.conflicts, a)
		}
	}
	s.mu.Unlock()
	for _, a := range addrs {
		_, err := s.Extend(ctx, a)
		if err == nil || ctx.Err() != nil || notHere(err) {
			continue // an address that is not ready comes again
		}
		s.mu.Lock()
		s.note(a, err)
		s.mu.Unlock()
	}
	return nil
}
