//go:build !linux

package main

import (
	"errors"
	"syscall"
)

func bindTo(syscall.RawConn, string) error { return errors.ErrUnsupported }
