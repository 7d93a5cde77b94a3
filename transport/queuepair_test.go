package transport_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

type allocator struct{ transport.QueuePair }

func (allocator) AllocateMemory(int, transport.Access) ([]byte, transport.MemoryRegion, error) {
	return nil, nil, nil
}

type wrapper struct{ transport.QueuePair }

func (w wrapper) Unwrap() transport.QueuePair { return w.QueuePair }

func TestAs(t *testing.T) {
	a := allocator{}
	got, ok := transport.As[transport.MemoryAllocator](wrapper{wrapper{a}})
	require.True(t, ok)
	require.Equal(t, a, got)
	_, ok = transport.As[transport.PlacerRegistrar](wrapper{a})
	require.False(t, ok)
	_, ok = transport.As[transport.MemoryAllocator](nil)
	require.False(t, ok)
}
