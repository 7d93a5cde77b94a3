package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// quantile interpolates between the values of v; it returns NaN if there are none.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	at := q * float64(len(s)-1)
	low := int(at)
	if low+1 == len(s) {
		return s[low]
	}
	return s[low] + (at-float64(low))*(s[low+1]-s[low])
}

func header(out io.Writer, c config, took time.Duration) {
	where := "client and server in two processes"
	if c.peer == "self" {
		where = "client and server in one process"
	}
	fmt.Fprintf(out, "Ratios to plain TCP over loopback: median of %d pairs (quartiles). Measured with %s,\n"+
		"in %v, on %d processors%s, %s/%s%s, %s, congestion control: %s.\n",
		c.rounds, where, took.Round(time.Second), runtime.NumCPU(), cpuModel(), runtime.GOOS, runtime.GOARCH, kernel(), runtime.Version(), lab.Congestion)
}

// cpuModel returns the processor's name as Linux reports it.
func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return " (" + strings.TrimSpace(value) + ")"
		}
	}
	return ""
}

func kernel() string {
	b, err := exec.Command("uname", "-r").Output()
	if err != nil {
		return ""
	}
	return " " + strings.TrimSpace(string(b))
}

// label turns a path's name into words.
func label(path string) string {
	l, ok := map[string]string{
		lab.TCPAgain: "plain TCP again (control)",
		lab.Fallback: "plain TCP through iwarp",
		lab.SoftCRC:  "**soft iWARP, CRC32C**",
		lab.Soft:     "**soft iWARP, no CRC**",
		lab.TLS:      "crypto/tls 1.3",
	}[path]
	if !ok {
		return path
	}
	return l
}

// threeDigits writes v with about three digits and no exponent.
func threeDigits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func printTables(out io.Writer, m *matrix) {
	for _, table := range []string{tableP50, tableP99, tableRate, tableCPU, tableSetUps} {
		printTable(out, m, table)
	}
}

func printTable(out io.Writer, m *matrix, table string) {
	var heads, absolute []string
	rows := make([][]string, len(m.variants))
	for _, w := range m.works {
		for _, ms := range w.measures {
			k := key{m.reference.path.Name, w.name(), ms.table}
			if ms.table != table || len(m.absolute[k]) == 0 {
				continue
			}
			head := "rate"
			if w.size > 0 {
				head = lab.FormatSize(w.size)
			}
			heads = append(heads, head)
			absolute = append(absolute, threeDigits(quantile(m.absolute[k], 0.5)*ms.scale)+" "+ms.unit)
			for i, e := range m.variants {
				k.path = e.path.Name
				v := m.ratios[k]
				rows[i] = append(rows[i], fmt.Sprintf("%.2f (%.2f–%.2f)", quantile(v, 0.5), quantile(v, 0.25), quantile(v, 0.75)))
			}
		}
	}
	if len(heads) == 0 {
		return
	}
	fmt.Fprintf(out, "\n| %s | %s |\n|---|%s\n", table, strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	fmt.Fprintf(out, "| plain TCP itself | %s |\n", strings.Join(absolute, " | "))
	for i, e := range m.variants {
		fmt.Fprintf(out, "| %s | %s |\n", label(e.path.Name), strings.Join(rows[i], " | "))
	}
}
