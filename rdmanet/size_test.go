package rdmanet

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// An idle connection is little more than this. The allocator has the number, of which it takes
// eight bytes for itself.
func TestSizeOfConn(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Conn{}), uintptr(576-8))
}
