//go:build linux

package kernel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a queue pair of ours reads in the Terminates that its requests earn from siw, or its Sends
// that are altered on the way.
func TestProvoke(t *testing.T) {
	g := theGuest(t)
	for _, c := range []struct {
		fault   string
		rsocket bool
		want    string // siw's layer, type and code in their right order
	}{
		{"wrong stag", true, "1/1/0x00"},
		{"bounds", true, "1/1/0x01"},
		{"read of a wrong stag", true, "1/0x0"},
		{"send too long", false, "1/2/0x02"},
		{"no receive", false, "1/2/0x02"},
		{"message number", true, "1/2/0x03"},
		{"message offset", true, "1/2/0x04"},
		{"queue number", true, "1/2/0x01"},
		{"opcode", true, "0/2/0x06"},
		{"ddp version", true, "1/2/0x06"},
		{"rdmap version", true, "0/2/0x05"},
		{"crc", true, "2/0/0x02"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			_, out := g.attack(t, "go-provoke", "our reading of a Terminate: ", c.fault, c.rsocket)
			t.Log(out)
			require.Contains(t, out, c.want)
			require.Contains(t, out, "(terminate)")
			g.healthy(t)
		})
	}
}
