//go:build !unix

package rdmanet_test

import "errors"

func getsockopt(uintptr, int, int) (int, error) { return 0, errors.ErrUnsupported }
