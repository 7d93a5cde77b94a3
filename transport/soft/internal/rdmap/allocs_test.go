package rdmap_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

func TestNoAllocations(t *testing.T) {
	write, read := wiretest.Hex(writeULPDU), wiretest.Hex(readULPDU)
	header := wiretest.Hex(readRequest)
	report := wiretest.Hex("01 02 e0 00 002e" + readULPDU)
	buf := make([]byte, 0, 256)
	var request rdmap.ReadRequest

	for name, f := range map[string]func() error{
		"tagged":    func() error { _, err := rdmap.Validate(write); return err },
		"untagged":  func() error { _, err := rdmap.Validate(read); return err },
		"error":     func() error { _, _ = rdmap.Validate(write[:9]); return nil },
		"parse":     func() (err error) { request, err = rdmap.ParseReadRequest(header); return err },
		"put":       func() error { request.Put(buf[:rdmap.ReadRequestLen]); return nil },
		"terminate": func() error { term := rdmap.ErrRemoteAccess.Terminate(read); term.Append(buf); return nil },
		"parse terminate": func() error {
			term, err := rdmap.ParseTerminate(report)
			term.Swapped()
			return err
		},
	} {
		allocs := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		})
		require.Zero(t, allocs, name)
	}
}
