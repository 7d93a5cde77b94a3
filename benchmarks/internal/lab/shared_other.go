//go:build !linux

package lab

// sharedMemory returns 0: nothing that is measured shares memory on this system.
func sharedMemory() uint64 { return 0 }
