package mpa_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

func TestNoAllocations(t *testing.T) {
	frame := mpa.Frame{
		Revision: mpa.Rev2, Flags: mpa.FlagCRC | mpa.FlagEnhanced,
		Enhanced: mpa.Enhanced{IRD: 1, ORD: 1, PeerToPeer: true}, PrivateData: make([]byte, 40),
	}
	frameBuf := make([]byte, 0, mpa.MaxFrameLen)
	wire, err := frame.Append(nil)
	require.NoError(t, err)
	fpduBuf := make([]byte, 2048)

	for name, f := range map[string]func() error{
		"Append":       func() error { _, err := frame.Append(frameBuf); return err },
		"ParseHeader":  func() error { _, err := mpa.ParseHeader(wire, false); return err },
		"Parse":        func() error { _, err := mpa.Parse(wire, false); return err },
		"parse error":  func() error { _, _ = mpa.Parse(wire, true); return nil },
		"prefix":       func() error { mpa.IsRequestPrefix(wire); return nil },
		"seal, check":  func() error { _, err := mpa.CheckFPDU(mpa.Seal(fpduBuf, 1442, true), true); return err },
		"CRC by parts": func() error { mpa.PutCRC(fpduBuf, mpa.UpdateCRC(mpa.CRC(wire), wire)); return nil },
	} {
		allocs := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		})
		require.Zero(t, allocs, name)
	}
}
