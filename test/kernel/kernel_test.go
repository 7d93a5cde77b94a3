//go:build linux

package kernel

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var (
	kernelFlag  = flag.Bool("kernel", false, "run the tests that need a virtual machine or captures")
	consoleFlag = flag.Bool("console", false, "show the guest's console")
	pcapFlag    = flag.String("pcap", "", "`file` for a capture of what goes between the guest and the host")
)

// bin is the folder of the programs built for this run.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if !*kernelFlag {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "iwarp-kernel")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stopGuest()
	return m.Run()
}

// build compiles the programs that the tests run, statically, as the guest has no Go and no library of ours.
func build() error {
	for _, p := range []struct{ module, pkg string }{
		{"../..", "./test/kernel/guestd"},
		{"../..", "./test/kernel/rstream"},
		{"../../examples", "./rping"},
	} {
		name := filepath.Base(p.pkg)
		if p.pkg != "./test/kernel/guestd" {
			name = "go-" + name // beside the C program of the same name
		}
		cmd := exec.Command("go", "build", "-C", p.module, "-o", filepath.Join(bin, name), p.pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build of %s: %w\n%s", p.pkg, err, out)
		}
	}
	cmd := exec.Command("go", "test", "-C", "../..", "-c", "-o", filepath.Join(bin, "ports.test"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build of the tests of ports: %w\n%s", err, out)
	}
	return nil
}

// needs skips the test unless the real peers are asked for.
func needs(t *testing.T) {
	t.Helper()
	if !*kernelFlag {
		t.Skip("real peers: run with `go test ./test/kernel -kernel`")
	}
}
