package iwarp_test

import (
	"archive/zip"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"

	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// published are the modules that programs of others require, by folder.
var published = []string{".", "grpc", "metrics/otel", "metrics/prometheus", "debug/pcapng", "cmd"}

var requiresUs = regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(module) + `[a-z/]* (v\S+)`)

var users = flag.Bool("modules", false, "run TestModulesOfUsers, which takes half a minute")

// TestModulesOfUsers has a program of somebody else require the modules of this repository from a
// proxy, as once they are released: none of them may depend on the replace directives of another.
func TestModulesOfUsers(t *testing.T) {
	if !*users {
		t.Skip("run with -modules")
	}
	version := releaseVersion(t)
	proxy := t.TempDir()
	for _, dir := range published {
		publish(t, proxy, dir, version)
	}
	known, err := exec.Command("go", "env", "GOMODCACHE", "GOPROXY").Output()
	require.NoError(t, err)
	cache, others, _ := strings.Cut(strings.TrimSpace(string(known)), "\n")
	user := t.TempDir()
	mods := filepath.Join(t.TempDir(), "mod")
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=-modcacherw", "GOSUMDB=off", "GOMODCACHE="+mods,
		"GOPROXY=file://"+proxy+",file://"+cache+"/cache/download,"+others)
	run := func(args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), "go", args...)
		c.Dir, c.Env = user, env
		out, err := c.CombinedOutput()
		require.NoErrorf(t, err, "go %s: %s", strings.Join(args, " "), out)
		return string(out)
	}
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(user, name), []byte(text), 0o644))
	}
	run("mod", "init", "example.test/user")
	write("main.go", `package main

import (
	"fmt"

	"github.com/rdmanet/iwarp"
	_ "github.com/rdmanet/iwarp/iwarphttp"
	_ "github.com/rdmanet/iwarp/transport/shm"
)

func main() {
	_, err := iwarp.Dial("tcp", "127.0.0.1:1")
	fmt.Println(err != nil)
}
`)
	run("get", module+"@"+version)
	require.Equal(t, "true\n", run("run", "."))
	run("mod", "verify")
	for _, dir := range published[1:] {
		run("get", module+"/"+dir+"@"+version)
	}
	write("others.go", `package main

import (
	_ "github.com/rdmanet/iwarp/debug/pcapng"
	_ "github.com/rdmanet/iwarp/grpc"
	_ "github.com/rdmanet/iwarp/metrics/otel"
	_ "github.com/rdmanet/iwarp/metrics/prometheus"
	_ "github.com/rdmanet/iwarp/transport/rnic"
)
`)
	for line := range strings.Lines(run("list", "-mod=mod", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}} {{with .Replace}}replaced{{end}}{{end}}", ".",
		module+"/cmd/iwarp-gateway")) {
		require.NotContains(t, line, "replaced")
		if strings.HasPrefix(line, module) {
			require.Contains(t, line, " "+version)
		}
	}
}

// releaseVersion is the version that the modules require each other in.
func releaseVersion(t *testing.T) (version string) {
	for _, dir := range published[1:] {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		require.NoError(t, err)
		for _, m := range requiresUs.FindAllStringSubmatch(string(b), -1) {
			require.True(t, version == "" || version == m[1], "%s requires %s, others %s", dir, m[1], version)
			version = m[1]
		}
	}
	require.NotEmpty(t, version)
	return version
}

// publish puts the module of a folder into a proxy (go.dev/ref/mod#goproxy-protocol).
func publish(t *testing.T, proxy, dir, version string) {
	name := strings.TrimSuffix(module+"/"+dir, "/.")
	to := filepath.Join(proxy, filepath.FromSlash(name), "@v")
	require.NoError(t, os.MkdirAll(to, 0o755))
	write := func(suffix string, b []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(to, suffix), b, 0o644))
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	require.NoError(t, err)
	write(version+".mod", mod)
	write(version+".info", fmt.Appendf(nil, `{"Version":%q}`, version))
	write("list", []byte(version+"\n"))
	f, err := os.Create(filepath.Join(to, version+".zip"))
	require.NoError(t, err)
	defer f.Close()
	z := zip.NewWriter(f)
	for _, file := range filesOf(t, dir) {
		in, err := os.Open(filepath.Join(dir, file))
		require.NoError(t, err)
		out, err := z.Create(name + "@" + version + "/" + filepath.ToSlash(file))
		require.NoError(t, err)
		_, err = io.Copy(out, in)
		require.NoError(t, err)
		require.NoError(t, in.Close())
	}
	require.NoError(t, z.Close())
}

// filesOf are the files of a module, without those of modules below it, and without tests.
func filesOf(t *testing.T, dir string) (files []string) {
	require.NoError(t, filepath.WalkDir(dir, func(file string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			if file != dir && (err == nil || strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if e.Type().IsRegular() && !strings.HasSuffix(file, "_test.go") {
			below, err := filepath.Rel(dir, file)
			if err != nil {
				return err
			}
			files = append(files, below)
		}
		return nil
	}))
	return files
}
