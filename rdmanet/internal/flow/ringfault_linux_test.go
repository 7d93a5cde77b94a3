package flow_test

import (
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
)

// TestPlaceFromMemoryThatIsGone makes nothing readable that was not copied.
func TestPlaceFromMemoryThatIsGone(t *testing.T) {
	page := syscall.Getpagesize()
	mem, err := syscall.Mmap(-1, 0, 2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	require.NoError(t, err)
	defer func() { _ = syscall.Munmap(mem) }()
	require.NoError(t, syscall.Mprotect(mem[page:], syscall.PROT_NONE))
	for name, room := range map[string]int{"stored": 0, "in the buffer of a Read": page, "in both": 10} {
		t.Run(name, func(t *testing.T) {
			r := flow.Ring{Size: 1 << 20, Wordless: true}
			r.Grant(1 << 20)
			r.Attach(make([]byte, room))
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			require.Panics(t, func() { _ = r.Place(0, mem[page-100:page+100]) })
			require.Zero(t, r.Available())
			require.Zero(t, r.Detach())
			require.Empty(t, r.Front())
		})
	}
}
