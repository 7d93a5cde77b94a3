package limits

import (
	"math"
	"runtime/debug"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestCgroup(t *testing.T) {
	for name, s := range map[string]struct {
		files map[string]string
		want  uint64
	}{
		"none":        {want: math.MaxUint64},
		"no limit":    {files: map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, want: math.MaxUint64},
		"version 2":   {files: map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "4096\n", "sys/fs/cgroup/a/memory.max": "8192\n"}, want: 4096},
		"parent":      {files: map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "8192\n"}, want: 8192},
		"container":   {files: map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "77\n"}, want: 77},
		"version 1":   {files: map[string]string{"proc/self/cgroup": "5:cpu:/x\n4:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "99\n"}, want: 99},
		"out of view": {files: map[string]string{"proc/self/cgroup": "0::/../../x\n"}, want: math.MaxUint64},
		"nonsense":    {files: map[string]string{"proc/self/cgroup": "what\n0::/a\n", "sys/fs/cgroup/a/memory.max": "-1\n"}, want: math.MaxUint64},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for file, text := range s.files {
				root[file] = &fstest.MapFile{Data: []byte(text)}
			}
			require.Equal(t, s.want, cgroup(root))
		})
	}
}

func TestMemory(t *testing.T) {
	n := Memory()
	require.Greater(t, n, uint64(16<<20))
	require.LessOrEqual(t, n, system())
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 23))
	require.EqualValues(t, 1<<23, Memory())
}
