package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A machine is what the figures depend on most.
type machine struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	System     string `json:"system"` // with the kernel's version
	Go         string `json:"go"`
	Congestion string `json:"congestion_control"`
}

func thisMachine() machine {
	return machine{CPU: processor(), Processors: runtime.NumCPU(), System: system(), Go: runtime.Version(), Congestion: lab.Congestion()}
}

func (m machine) String() string {
	return fmt.Sprintf("%d processors (%s), %s, %s, congestion control %s", m.Processors, m.CPU, m.System, m.Go, m.Congestion)
}

// processor returns the name that Linux reports.
func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func system() string {
	s := runtime.GOOS + "/" + runtime.GOARCH
	if b, err := exec.Command("uname", "-r").Output(); err == nil {
		s += " " + strings.TrimSpace(string(b))
	}
	return s
}

// load returns how many threads wanted to run, in the mean of the last minute, and "" where the
// system does not say.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
