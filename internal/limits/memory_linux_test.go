package limits

import (
	"math"
	"runtime/debug"
	"strconv"
	"strings"
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

// FuzzCgroup reads what a container's files may say. A limit is never above one that is there.
func FuzzCgroup(f *testing.F) {
	for _, seed := range []string{"", "0::/\n", "0::/a/b\n", "4:memory:/a\n5:cpu:/x\n", "0::/../../x\n", "0::\n", "::\n0::a//b/./../c", "0::/\x00\n", "4:memory:memory:/a"} {
		f.Add([]byte(seed), []byte("4096\n"))
		f.Add([]byte(seed), []byte("max\n"))
	}
	f.Fuzz(func(t *testing.T, groups, limit []byte) {
		groups = groups[:min(len(groups), 100)]
		got := cgroup(fstest.MapFS{
			"proc/self/cgroup":         {Data: groups},
			"sys/fs/cgroup/memory.max": {Data: limit}, "sys/fs/cgroup/a/memory.max": {Data: []byte("8192\n")},
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": {Data: limit},
		})
		n, err := strconv.ParseUint(strings.TrimSpace(string(limit)), 10, 64)
		if err != nil {
			n = math.MaxUint64
		}
		require.Contains(t, []uint64{n, 8192, math.MaxUint64}, got)
	})
}
