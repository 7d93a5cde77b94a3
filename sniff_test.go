package iwarp

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		in    string
		ended bool
		want  verdict
	}{
		{"", false, undecided},
		{"", true, plainTCP},
		{"M", false, undecided},
		{"M", true, plainTCP},
		{"m", false, plainTCP},
		{"MPA ID Re", false, undecided},
		{"MPA ID Req Fram", false, undecided},
		{"MPA ID Req Fram", true, plainTCP},
		{"MPA ID Req Frame", false, iwarpRequest},
		{"MPA ID Req Frame", true, iwarpRequest},
		{"MPA ID Req Frame\x40\x02\x00\x00", false, iwarpRequest},
		{"MPA ID Rep Frame", false, plainTCP},
		{"MPA ID Rep", false, plainTCP},
		{"GET / HTTP/1.1\r\n", false, plainTCP},
		{"\x16\x03\x01", false, plainTCP},
		{"\x00", false, plainTCP},
	} {
		require.Equal(t, tt.want, judge([]byte(tt.in), tt.ended), "%q, ended %v", tt.in, tt.ended)
	}
}
