package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

var image = flag.Bool("image", false, "build the program as for a container image, which takes a minute")

// TestImage builds the program as Containerfile does, and runs it as it would be run there: with
// nothing else in its file system, as nobody.
func TestImage(t *testing.T) {
	if !*image {
		t.Skip("takes a minute: run with -image")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to change the root directory")
	}
	recipe, err := os.ReadFile("Containerfile")
	require.NoError(t, err)
	args := regexp.MustCompile(`go build -C \S+ (.*) -o \S+ (\S+)`).FindStringSubmatch(string(recipe))
	require.NotNil(t, args)
	root := t.TempDir()
	require.NoError(t, os.Chmod(root, 0o755))
	for dir := filepath.Dir(root); dir != os.TempDir(); dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	build := exec.Command("go", append(append([]string{"build"}, strings.Fields(args[1])...), "-o", filepath.Join(root, "iwarp-gateway"), ".")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	run := exec.Command("/iwarp-gateway", "--check", "tcp://127.0.0.1:1=iwarp://10.0.0.2:2")
	run.Path, run.Dir = "/iwarp-gateway", "/"
	run.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	out, err = run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	run = exec.Command("/iwarp-gateway")
	run.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	var errs bytes.Buffer
	run.Stderr = &errs
	require.Error(t, run.Run())
	require.Contains(t, errs.String(), errNoMappings.Error())
}

// TestUnit has systemd say what is wrong with the unit, where it is there.
func TestUnit(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	unit, err := os.ReadFile("iwarp-gateway.service")
	require.NoError(t, err)
	program, err := os.Executable()
	require.NoError(t, err)
	unit = bytes.ReplaceAll(unit, []byte("/usr/local/bin/iwarp-gateway"), []byte(program))
	unit = regexp.MustCompile(`(?m)^Documentation=.*$`).ReplaceAll(unit, nil)
	name := filepath.Join(t.TempDir(), "iwarp-gateway.service")
	require.NoError(t, os.WriteFile(name, unit, 0o644))
	out, err := exec.Command(verify, "verify", name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, string(out), name, "%s", out)
}
