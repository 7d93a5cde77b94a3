package rdmanet

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// An idle connection is little more than this. The number is one that the allocator has.
func TestSizeOfConn(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Conn{}), uintptr(1152))
}
