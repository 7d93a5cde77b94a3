package soft

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// An idle queue pair is little more than this. The number is one that the allocator has.
func TestSizeOfQueuePair(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(queuePair{}), uintptr(1280))
}
