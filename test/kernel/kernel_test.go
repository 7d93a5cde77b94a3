//go:build linux

package kernel

import (
	"context"
	"errors"
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
	fullFlag    = flag.Bool("full", false, "run all, and not only a part that covers each option once")
	resultsFlag = flag.String("results", "", "`file` for the table of results")
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
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := m.Run()
	stopGuest(status != 0)
	if *resultsFlag != "" {
		if err := writeResults(*resultsFlag); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}

// A program is one of ours that the guest gets.
type program struct {
	name   string
	module string // folder of its module
	pkg    string
	test   bool // the tests of the package
}

var goPrograms = []program{
	{"guestd", "../..", "./test/kernel/guestd", false},
	{"go-rstream", "../..", "./test/kernel/rstream", false},
	{"go-stream", "../..", "./test/kernel/stream", false},
	{"go-riostream", "../..", "./test/kernel/riostream", false},
	{"go-rcopy", "../..", "./test/kernel/rcopy", false},
	{"go-perftest", "../..", "./test/kernel/perftest", false},
	{"go-relay", "../..", "./test/kernel/relay", false},
	{"go-provoke", "../..", "./test/kernel/provoke", false},
	{"go-deadlines", "../..", "./test/kernel/deadlines", false},
	{"go-httpd", "../..", "./test/kernel/httpd", false},
	{"badpeer", "../..", "./transport/soft/internal/badpeer", false},
	{"go-rping", "../../examples", "./rping", false},
	{"iwarp.test", "../..", ".", true},
	{"ports.test", "../..", "./test/ports", true},
	{"nldev.test", "../..", "./internal/nldev", true},
	{"faults.test", "../..", "./test/faults", true},
	{"iwarp-portguard", "../../cmd", "./iwarp-portguard", false},
	{"iwarpstat", "../../cmd", "./iwarpstat", false},
	{"iwarpspec", "../../cmd", "./iwarpspec", false},
	{"iwarp-gateway", "../../cmd", "./iwarp-gateway", false},
	{"iwarpstat.test", "../../cmd", "./iwarpstat", true},
	{"portguard.test", "../../cmd", "./iwarp-portguard", true},
	{"rnic.test", "../..", "./transport/rnic", true},
}

// guestPrograms are the names of the files that the guest gets from bin.
var guestPrograms []string

// prepare builds what the tests run.
func prepare() error {
	if os.Getuid() != 0 {
		return errors.New("the captures need root")
	}
	ctx, cancel := context.WithTimeout(context.Background(), prepareLimit)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "./vm", "prepare").CombinedOutput(); err != nil {
		return fmt.Errorf("vm prepare: %w\n%s", err, out)
	}
	for _, p := range goPrograms {
		out := filepath.Join(bin, p.name)
		args := []string{"build", "-C", p.module, small, "-o", out, p.pkg}
		if p.test {
			args = []string{"test", "-C", p.module, small, "-c", "-o", out, p.pkg}
		}
		if err := compile(exec.Command("go", args...), p.name); err != nil {
			return err
		}
	}
	if err := buildFileservers(); err != nil {
		return err
	}
	return compile(exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-o", filepath.Join(bin, "c-stream"), "cstream/stream.c", "-lrdmacm", "-lpthread"), "c-stream")
}

// small leaves out what only debuggers need: the files of the guest are in its memory.
const small = "-ldflags=-s -w"

// compile runs a compiler. The guest has no Go and no library of ours, so nothing is linked to any.
func compile(cmd *exec.Cmd, name string) error {
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build of %s: %w\n%s", name, err, out)
	}
	guestPrograms = append(guestPrograms, name)
	return nil
}

// needs skips the test unless the real peers are asked for.
func needs(t *testing.T) {
	t.Helper()
	if !*kernelFlag {
		t.Skip("real peers: run with `go test ./test/kernel -kernel`")
	}
}
