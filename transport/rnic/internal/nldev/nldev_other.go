//go:build !linux

package nldev

import "errors"

// Links is there on Linux only.
func Links() ([]Link, error) { return nil, errors.ErrUnsupported }

// Resources is there on Linux only.
func Resources(string) (Counts, error) { return Counts{}, errors.ErrUnsupported }
