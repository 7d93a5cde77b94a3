package soft

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// An idle queue pair is little more than this. The allocator has the number, of which it takes
// eight bytes for itself.
func TestSizeOfQueuePair(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(queuePair{}), uintptr(576-8))
}
