//go:build !linux

package statpage

import (
	"errors"
	"fmt"
)

type file struct{ memory []byte }

var errNoFile = fmt.Errorf("statistics page: %w", errors.ErrUnsupported)

func create() (*file, error) { return nil, errNoFile }

func (*file) grow(int, int) ([]byte, error) { return nil, errNoFile }

func netns() uint64 { return 0 }
