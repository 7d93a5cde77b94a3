//go:build !linux

package proc

func inode(string) (number uint64, ok bool) { return 0, false }
