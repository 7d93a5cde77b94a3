//go:build linux

package bound

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsePorts(t *testing.T) {
	for list, want := range map[string]portRanges{
		"\n": nil, "": nil, "8080\n": {{8080, 8080}}, "8080,9000-9010\n": {{8080, 8080}, {9000, 9010}}, "x,5": {{5, 5}},
	} {
		require.Equal(t, want, parsePorts(list), "%q", list)
	}
	p := parsePorts("8080,9000-9010")
	for port, want := range map[int]bool{8079: false, 8080: true, 8081: false, 8999: false, 9000: true, 9010: true, 9011: false} {
		require.Equal(t, want, p.contain(port), "%d", port)
	}
}
