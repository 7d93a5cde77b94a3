//go:build !linux

package lab

import "syscall"

// Congestion returns the congestion control that every path of this process is measured with.
func Congestion() string { return "the host's default" }

func pinCongestion(_, _ string, _ syscall.RawConn) error { return nil }
