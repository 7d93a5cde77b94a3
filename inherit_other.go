//go:build !unix

package iwarp

import (
	"errors"
	"os"
)

// copyOf has no numbers to copy from: descriptors are not inherited by number here.
func copyOf(int, string) (*os.File, error) { return nil, errors.ErrUnsupported }

func closeFD(int) {}
