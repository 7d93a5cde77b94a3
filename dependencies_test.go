package iwarp_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDependencies keeps what makes a binary need a loader, or a large go.sum, out of programs that
// have not asked for it.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".", "./rdmanet", "./transport/soft").Output()
	require.NoError(t, err)
	allowed := []string{"github.com/rdmanet/iwarp", "golang.org/x/sys"}
	for _, module := range strings.Fields(string(out)) {
		require.Contains(t, allowed, module)
	}
}
