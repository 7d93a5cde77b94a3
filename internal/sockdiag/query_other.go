//go:build !linux

package sockdiag

import "errors"

// Query works on Linux only.
func Query(uint16) ([]Socket, error) { return nil, errors.ErrUnsupported }

// QueryDetailed works on Linux only.
func QueryDetailed() ([]Socket, error) { return nil, errors.ErrUnsupported }

// QueryUnconnected works on Linux only.
func QueryUnconnected(uint16) ([]Socket, error) { return nil, errors.ErrUnsupported }

// Available is never nil.
func Available() error { return errors.ErrUnsupported }

// BoundVisible is false where there is no Query.
func BoundVisible() bool { return false }

// Owners finds none.
func Owners(...uint32) (map[uint32]Process, bool) { return nil, false }

// Elsewhere finds out nothing.
func Elsewhere(uint32) (found, complete bool, err error) { return false, false, errors.ErrUnsupported }
