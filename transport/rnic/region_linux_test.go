//go:build amd64 || arm64

package rnic

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestBytesAfterDeregister touches memory that is given back, which a program may do by mistake, or
// as another goroutine closes.
func TestBytesAfterDeregister(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for name, end := range map[string]func(t *testing.T, r *region){
		"after the queue pair":  func(t *testing.T, r *region) { require.NoError(t, r.Deregister()) },
		"before the queue pair": func(_ *testing.T, r *region) { r.over = true; r.revoke() },
	} {
		t.Run(name, func(t *testing.T) {
			b, err := mapMemory(1 << 20)
			require.NoError(t, err)
			r := &region{mem: &mapping{b}, n: len(b)}
			defer r.mem.unmap()
			for i := range b {
				b[i] = 1
			}
			end(t, r)
			vec := make([]byte, len(b)/os.Getpagesize())
			_, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(unsafe.Pointer(&vec[0])))
			require.Zero(t, errno)
			require.Zero(t, bytes.Count(vec, []byte{1}), "pages are given back")
			require.NotPanics(t, func() {
				require.Equal(t, make([]byte, len(b)), b)
				b[1] = 1
			})
			runtime.KeepAlive(r)
		})
	}
}
