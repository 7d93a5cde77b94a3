package rdmap_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

var allErrors = []struct {
	err              *rdmap.Error
	layer, typ, code uint8
	headers          rdmap.Headers
}{
	{rdmap.ErrCatastrophic, 0, 0, 0x00, 0},
	{rdmap.ErrRemoteInvalidSTag, 0, 1, 0x00, 0xe0},
	{rdmap.ErrRemoteBaseBounds, 0, 1, 0x01, 0xe0},
	{rdmap.ErrRemoteAccess, 0, 1, 0x02, 0xe0},
	{rdmap.ErrRemoteSTagNotAssociated, 0, 1, 0x03, 0xe0},
	{rdmap.ErrRemoteTOWrap, 0, 1, 0x04, 0xe0},
	{rdmap.ErrCannotInvalidate, 0, 1, 0x09, 0xc0},
	{rdmap.ErrRemoteProtection, 0, 1, 0xff, 0xe0},
	{rdmap.ErrVersion, 0, 2, 0x05, 0},
	{rdmap.ErrUnexpectedOpcode, 0, 2, 0x06, 0},
	{rdmap.ErrReadCatastrophic, 0, 2, 0x07, 0},
	{rdmap.ErrGlobalCatastrophic, 0, 2, 0x08, 0},
	{rdmap.ErrCannotInvalidateUnknown, 0, 2, 0x09, 0xc0},
	{rdmap.ErrRemoteOperation, 0, 2, 0xff, 0},
	{rdmap.ErrDDPCatastrophic, 1, 0, 0x00, 0},
	{rdmap.ErrInvalidSTagTagged, 1, 1, 0x00, 0xc0},
	{rdmap.ErrBaseBounds, 1, 1, 0x01, 0xc0},
	{rdmap.ErrSTagNotAssociated, 1, 1, 0x02, 0xc0},
	{rdmap.ErrTOWrap, 1, 1, 0x03, 0xc0},
	{rdmap.ErrDDPVersionTagged, 1, 1, 0x04, 0},
	{rdmap.ErrInvalidQN, 1, 2, 0x01, 0xc0},
	{rdmap.ErrNoBuffer, 1, 2, 0x02, 0xc0},
	{rdmap.ErrMSNRange, 1, 2, 0x03, 0xc0},
	{rdmap.ErrInvalidMO, 1, 2, 0x04, 0xc0},
	{rdmap.ErrMessageTooLong, 1, 2, 0x05, 0xc0},
	{rdmap.ErrDDPVersionUntagged, 1, 2, 0x06, 0},
	{rdmap.ErrMPAClosed, 2, 0, 0x01, 0},
	{rdmap.ErrMPACRC, 2, 0, 0x02, 0},
	{rdmap.ErrMPALength, 2, 0, 0x03, 0},
	{rdmap.ErrMPAFrame, 2, 0, 0x04, 0},
	{rdmap.ErrMPACatastrophic, 2, 0, 0x05, 0},
	{rdmap.ErrMPAInsufficientIRD, 2, 0, 0x06, 0},
	{rdmap.ErrMPANoRTR, 2, 0, 0x07, 0},
}

func TestErrors(t *testing.T) {
	texts := map[string]bool{}
	for _, tt := range allErrors {
		require.Equal(t, []uint8{tt.layer, tt.typ, tt.code}, []uint8{tt.err.Layer, tt.err.Type, tt.err.Code}, tt.err)
		require.Equal(t, tt.headers, tt.err.Headers, tt.err)
		require.Same(t, tt.err, rdmap.Lookup(tt.layer, tt.typ, tt.code))
		require.False(t, texts[tt.err.Error()], tt.err)
		texts[tt.err.Error()] = true
	}
	require.Equal(t, "ddp: base or bounds violation (1/1/0x01)", rdmap.ErrBaseBounds.Error())
	require.Equal(t, "mpa: CRC mismatch (2/0/0x02)", rdmap.ErrMPACRC.Error())
	require.Equal(t, "rdmap: access rights violation (0/1/0x02)", rdmap.ErrRemoteAccess.Error())
}

func TestLookupUnknown(t *testing.T) {
	found := map[*rdmap.Error]bool{}
	for layer := range uint8(16) {
		for typ := range uint8(16) {
			for code := range 256 {
				if e := rdmap.Lookup(layer, typ, uint8(code)); e != nil {
					require.Equal(t, layer, e.Layer)
					require.Equal(t, typ, e.Type)
					found[e] = true
				}
			}
		}
	}
	require.Len(t, found, len(allErrors))
	require.Nil(t, rdmap.Lookup(1, 3, 0))
	require.Same(t, rdmap.ErrCatastrophic, rdmap.Lookup(0, 0, 0x55), "any code")
}

func TestAsError(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("reading: %w", err) }
	tests := []struct {
		err  error
		want *rdmap.Error
	}{
		{rdmap.ErrNoBuffer, rdmap.ErrNoBuffer},
		{wrap(rdmap.ErrNoBuffer), rdmap.ErrNoBuffer},
		{wrap(mpa.ErrCRC), rdmap.ErrMPACRC},
		{mpa.ErrLength, rdmap.ErrMPALength},
		{mpa.ErrKey, rdmap.ErrMPAFrame},
		{ddp.ErrCatastrophic, rdmap.ErrDDPCatastrophic},
		{wrap(ddp.ErrVersionTagged), rdmap.ErrDDPVersionTagged},
		{ddp.ErrMSNRange, rdmap.ErrMSNRange},
	}
	for _, tt := range tests {
		got, ok := rdmap.AsError(tt.err)
		require.True(t, ok, tt.err)
		require.Same(t, tt.want, got, tt.err)
	}
	for _, err := range []error{nil, errors.New("other"), ddp.ErrShort} {
		_, ok := rdmap.AsError(err)
		require.False(t, ok, err)
	}
}

func TestErrorIs(t *testing.T) {
	require.ErrorIs(t, rdmap.ErrBaseBounds, ddp.ErrBaseBounds)
	require.NotErrorIs(t, rdmap.ErrBaseBounds, ddp.ErrTOWrap)
	require.NotErrorIs(t, rdmap.ErrRemoteBaseBounds, ddp.ErrBaseBounds)
	require.NotErrorIs(t, rdmap.ErrBaseBounds, rdmap.ErrRemoteBaseBounds)
}
