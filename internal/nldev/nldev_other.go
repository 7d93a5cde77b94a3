//go:build !linux

package nldev

import "errors"

// Links is there on Linux only.
func Links() ([]Link, error) { return nil, errors.ErrUnsupported }

// Devices is there on Linux only.
func Devices() ([]Link, error) { return nil, errors.ErrUnsupported }

// Resources is there on Linux only.
func Resources(string) (Counts, error) { return Counts{}, errors.ErrUnsupported }

// CMIDs is there on Linux only.
func CMIDs(uint32) ([]CMID, error) { return nil, errors.ErrUnsupported }

// QueuePairs is there on Linux only.
func QueuePairs(uint32) ([]QP, error) { return nil, errors.ErrUnsupported }
