//go:build linux

package kernel

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The guest as a whole has no descriptors left, for anybody but root (ENFILE).
func TestSystemOutOfDescriptors(t *testing.T) {
	g := theGuest(t)
	const most = "/proc/sys/fs/file-max"
	was := strings.TrimSpace(g.run(t, "busybox", "cat", most))
	// Others have the guest after this test, even if it is cut off.
	t.Cleanup(func() { g.run(t, "busybox", "sh", "-c", "echo "+was+" >"+most) })
	const script = `set -- $(cat /proc/sys/fs/file-nr)
		echo $(($1 + 300)) >` + most + `
		$(which setpriv) --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --no-new-privs \
			faults.test -test.v -test.run '^TestSystemOutOfDescriptors$' 2>&1`
	out := g.run(t, "busybox", "sh", "-c", script)
	require.Contains(t, out, "--- PASS: TestSystemOutOfDescriptors")
	require.NotContains(t, out, "--- SKIP")
	g.healthy(t)
}
