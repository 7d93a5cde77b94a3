package rdmap_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

func TestOpcodes(t *testing.T) {
	type traits struct{ supported, tagged, send, invalidates, solicited bool }
	tests := []struct {
		op      rdmap.Opcode
		control byte
		queue   uint32
		want    traits
		name    string
	}{
		{rdmap.OpWrite, 0x40, 0, traits{supported: true, tagged: true}, "RDMA Write"},
		{rdmap.OpReadRequest, 0x41, 1, traits{supported: true}, "RDMA Read Request"},
		{rdmap.OpReadResponse, 0x42, 0, traits{supported: true, tagged: true}, "RDMA Read Response"},
		{rdmap.OpSend, 0x43, 0, traits{supported: true, send: true}, "Send"},
		{rdmap.OpSendInvalidate, 0x44, 0, traits{supported: true, send: true, invalidates: true}, "Send with Invalidate"},
		{rdmap.OpSendSE, 0x45, 0, traits{supported: true, send: true, solicited: true}, "Send with Solicited Event"},
		{
			rdmap.OpSendSEInvalidate, 0x46, 0, traits{supported: true, send: true, invalidates: true, solicited: true},
			"Send with Solicited Event and Invalidate",
		},
		{rdmap.OpTerminate, 0x47, 2, traits{supported: true}, "Terminate"},
		{rdmap.OpImmediate, 0x48, 0, traits{}, "Immediate Data"},
		{rdmap.OpImmediateSE, 0x49, 0, traits{}, "Immediate Data with Solicited Event"},
		{rdmap.OpAtomicRequest, 0x4a, 0, traits{}, "Atomic Request"},
		{rdmap.OpAtomicResponse, 0x4b, 0, traits{}, "Atomic Response"},
		{rdmap.Opcode(12), 0x4c, 0, traits{}, "unknown opcode"},
		{rdmap.Opcode(15), 0x4f, 0, traits{}, "unknown opcode"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.control, rdmap.Control(tt.op))
			require.Equal(t, tt.op, rdmap.OpcodeOf(tt.control))
			require.Equal(t, tt.op, rdmap.OpcodeOf(tt.control|0x30), "reserved bits")
			require.EqualValues(t, rdmap.Version, rdmap.VersionOf(tt.control))
			require.Equal(t, tt.queue, tt.op.Queue())
			require.Equal(t, tt.want, traits{
				tt.op.Supported(), tt.op.Tagged(), tt.op.IsSend(), tt.op.Invalidates(), tt.op.Solicited(),
			})
			require.Equal(t, tt.name, tt.op.String())
		})
	}
	require.EqualValues(t, 3, rdmap.VersionOf(0xc0))
}
