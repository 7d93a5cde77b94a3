package ports

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzInheritance reads the variables of a process that was started with sockets.
func FuzzInheritance(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""}, {"0", ""}, {"1", "http"}, {"3", "a::b:c:d"}, {"-1", ""}, {"65537", ""}, {"65536", ":"}, {"99999999999999999999", ""}, {"0x2", ""}, {" 2", ""}, {"+2", "\xff:\n"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, fds, names string) {
		for name, value := range map[string]string{"LISTEN_FDS": fds, "LISTEN_FDNAMES": names} {
			for i := range len(value) {
				if value[i] == 0 {
					return // no variable can have it
				}
			}
			t.Setenv(name, value)
		}
		list, err := inheritance()
		if err != nil {
			require.Empty(t, list)
			return
		}
		require.LessOrEqual(t, len(list), 1<<16)
		for i, d := range list {
			require.Equal(t, firstInherited+i, d.fd)
			require.NotEmpty(t, d.name)
			if i > 100 {
				break
			}
		}
	})
}
