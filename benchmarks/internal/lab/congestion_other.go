//go:build !linux

package lab

import "syscall"

// Congestion is the congestion control that every path is measured with.
const Congestion = "the host's default"

func pinCongestion(_, _ string, _ syscall.RawConn) error { return nil }
