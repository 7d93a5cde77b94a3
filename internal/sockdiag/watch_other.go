//go:build !linux

package sockdiag

import (
	"errors"
	"time"
)

// A Watcher is told when addresses of the host come and go.
type Watcher struct{}

// Watch works on Linux only.
func Watch() (*Watcher, error) { return nil, errors.ErrUnsupported }

// Wait is never called.
func (*Watcher) Wait(time.Duration) error { return errors.ErrUnsupported }

// Close does nothing.
func (*Watcher) Close() error { return nil }
