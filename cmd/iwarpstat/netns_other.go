//go:build !linux

package main

import "errors"

func askKernel(int, uint64) *kernel { return kernelOf(nil, false, errors.ErrUnsupported) }

func netnsOf(string) (uint64, error) { return 0, errors.ErrUnsupported }
