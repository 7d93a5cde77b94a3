package transport_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// named is a Transport of which only the registry's part is used.
type named struct {
	transport.Transport
	name     string
	offloads bool
}

func (n *named) Name() string   { return n.name }
func (n *named) Offloads() bool { return n.offloads }

func TestRegister(t *testing.T) {
	require.Empty(t, transport.Registered())
	t.Cleanup(transport.ForgetRegistered)
	soft, one, two, again := &named{name: "a"}, &named{name: "b", offloads: true}, &named{name: "c", offloads: true}, &named{name: "a"}
	for _, n := range []*named{soft, one, two} {
		transport.Register(n)
	}
	list := transport.Registered()
	require.Equal(t, []transport.Transport{one, two, soft}, list, "those that offload come first, each kind in order")
	transport.Register(again)
	got := transport.Registered()
	require.Len(t, got, 3)
	require.Same(t, again, got[2], "the later one of a name counts")
	require.Same(t, soft, list[2], "a list that was given out does not change")
}
