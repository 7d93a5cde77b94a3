package ddp_test

import (
	"testing"
	"testing/quick"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

func TestTaggedGolden(t *testing.T) {
	tests := []struct {
		hex     string
		header  ddp.Tagged
		payload string
	}{
		{"c1 40 12345600 0000000000001000 68656c6c6f", ddp.Tagged{Last: true, ULP: 0x40, STag: 0x12345600, TO: 0x1000}, "hello"},
		{"c1 42 0000a100 0000000000000020 64617461", ddp.Tagged{Last: true, ULP: 0x42, STag: 0xa100, TO: 0x20}, "data"},
		{"81 40 00000001 ffffffffffffffff", ddp.Tagged{ULP: 0x40, STag: 1, TO: 1<<64 - 1}, ""},
	}
	for _, tt := range tests {
		wire := wiretest.Hex(tt.hex)
		header, payload, err := ddp.ParseTagged(wire)
		require.NoError(t, err)
		require.Equal(t, tt.header, header)
		require.Equal(t, tt.payload, string(payload))
		require.Equal(t, string(wire), string(tt.header.Append(nil))+tt.payload)

		put := make([]byte, ddp.TaggedLen)
		tt.header.Put(put)
		require.Equal(t, wire[:ddp.TaggedLen], put)
	}
}

func TestUntaggedGolden(t *testing.T) {
	tests := []struct {
		hex     string
		header  ddp.Untagged
		payload string
	}{
		{"41 43 00000000 00000000 00000001 00000000 70696e67", ddp.Untagged{Last: true, ULP: 0x43, MSN: 1}, "ping"},
		{
			"41 46 12345600 00000000 00000002 00000000 6f6b",
			ddp.Untagged{Last: true, ULP: 0x46, ULPWord: 0x12345600, MSN: 2}, "ok",
		},
		{"01 43 00000000 00000000 ffffffff 00010000 78", ddp.Untagged{ULP: 0x43, MSN: 0xffffffff, MO: 0x10000}, "x"},
		{"41 47 00000000 00000002 00000001 00000000", ddp.Untagged{Last: true, ULP: 0x47, QN: ddp.QueueTerminate, MSN: 1}, ""},
	}
	for _, tt := range tests {
		wire := wiretest.Hex(tt.hex)
		header, payload, err := ddp.ParseUntagged(wire)
		require.NoError(t, err)
		require.Equal(t, tt.header, header)
		require.Equal(t, tt.payload, string(payload))
		require.Equal(t, string(wire), string(tt.header.Append(nil))+tt.payload)

		put := make([]byte, ddp.UntaggedLen)
		tt.header.Put(put)
		require.Equal(t, wire[:ddp.UntaggedLen], put)
	}
}

func TestRoundTrip(t *testing.T) {
	require.NoError(t, quick.Check(func(h ddp.Tagged, data []byte) bool {
		got, payload, err := ddp.ParseTagged(append(h.Append(nil), data...))
		return err == nil && got == h && string(payload) == string(data)
	}, nil))
	require.NoError(t, quick.Check(func(h ddp.Untagged, data []byte) bool {
		got, payload, err := ddp.ParseUntagged(append(h.Append(nil), data...))
		return err == nil && got == h && string(payload) == string(data)
	}, nil))
}

// Put overwrites whatever was in the buffer, and not a byte more.
func TestPutOverwrites(t *testing.T) {
	b := make([]byte, 20)
	for i := range b {
		b[i] = 0xff
	}
	(&ddp.Tagged{}).Put(b)
	require.Equal(t, wiretest.Hex("81 00 00000000 0000000000000000 ffffffffffff"), b)
	for i := range b {
		b[i] = 0xff
	}
	(&ddp.Untagged{}).Put(b)
	require.Equal(t, wiretest.Hex("01 00 00000000 00000000 00000000 00000000 ffff"), b)
	require.Panics(t, func() { (&ddp.Tagged{}).Put(make([]byte, ddp.TaggedLen-1)) })
	require.Panics(t, func() { (&ddp.Untagged{}).Put(make([]byte, ddp.UntaggedLen-1)) })
}

// Every value of the control byte: T chooses the header, only version 1 is taken,
// and the reserved bits change nothing.
func TestControlByte(t *testing.T) {
	for c := range 256 {
		b := make([]byte, 24)
		b[0] = byte(c)
		tagged, last, version := c&0x80 != 0, c&0x40 != 0, c&3
		require.Equal(t, tagged, ddp.IsTagged(byte(c)))
		require.EqualValues(t, version, ddp.VersionOf(byte(c)))

		th, payload, err := ddp.ParseTagged(b)
		switch {
		case !tagged:
			require.ErrorIs(t, err, ddp.ErrModel)
			require.Nil(t, payload)
		case version != 1:
			require.ErrorIs(t, err, ddp.ErrVersionTagged)
			require.Nil(t, payload)
		default:
			require.NoError(t, err)
			require.Equal(t, ddp.Tagged{Last: last}, th)
		}
		uh, payload, err := ddp.ParseUntagged(b)
		switch {
		case tagged:
			require.ErrorIs(t, err, ddp.ErrModel)
			require.Nil(t, payload)
		case version != 1:
			require.ErrorIs(t, err, ddp.ErrVersionUntagged)
			require.Nil(t, payload)
		default:
			require.NoError(t, err)
			require.Equal(t, ddp.Untagged{Last: last}, uh)
		}
	}
}

func TestShortSegments(t *testing.T) {
	tagged, untagged := (&ddp.Tagged{}).Append(nil), (&ddp.Untagged{}).Append(nil)
	for n := range ddp.TaggedLen {
		_, _, err := ddp.ParseTagged(tagged[:n])
		require.ErrorIs(t, err, ddp.ErrShort, n)
	}
	for n := range ddp.UntaggedLen {
		_, _, err := ddp.ParseUntagged(untagged[:n])
		require.ErrorIs(t, err, ddp.ErrShort, n)
	}
}

func TestErrorCodes(t *testing.T) {
	tests := []struct {
		err       *ddp.Error
		typ, code uint8
	}{
		{ddp.ErrCatastrophic, 0, 0},
		{ddp.ErrInvalidSTag, 1, 0},
		{ddp.ErrBaseBounds, 1, 1},
		{ddp.ErrSTagNotAssociated, 1, 2},
		{ddp.ErrTOWrap, 1, 3},
		{ddp.ErrVersionTagged, 1, 4},
		{ddp.ErrInvalidQN, 2, 1},
		{ddp.ErrNoBuffer, 2, 2},
		{ddp.ErrMSNRange, 2, 3},
		{ddp.ErrInvalidMO, 2, 4},
		{ddp.ErrMessageTooLong, 2, 5},
		{ddp.ErrVersionUntagged, 2, 6},
	}
	for _, tt := range tests {
		require.Equal(t, tt.typ, tt.err.Type, tt.err)
		require.Equal(t, tt.code, tt.err.Code, tt.err)
		require.Equal(t, "ddp: "+tt.err.Text(), tt.err.Error())
	}
}

func TestNoAllocations(t *testing.T) {
	th, uh := ddp.Tagged{Last: true, STag: 1}, ddp.Untagged{Last: true, MSN: 1}
	buf := make([]byte, 0, 64)
	tagged, untagged := th.Append(nil), uh.Append(nil)
	allocs := testing.AllocsPerRun(100, func() {
		th.Put(buf[:ddp.TaggedLen])
		uh.Put(buf[:ddp.UntaggedLen])
		th.Append(buf)
		uh.Append(buf)
		if _, _, err := ddp.ParseTagged(tagged); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ddp.ParseUntagged(untagged); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ddp.ParseTagged(untagged); err == nil {
			t.Fatal("no error")
		}
	})
	require.Zero(t, allocs)
}
