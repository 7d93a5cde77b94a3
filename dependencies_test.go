package iwarp_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/rdmanet/iwarp"

// TestDependencies keeps what makes a binary need a loader, or a large go.sum, out of programs that
// have not asked for it.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".", "./rdmanet", "./transport/soft", "./transport/shm").Output()
	require.NoError(t, err)
	allowed := []string{module, "github.com/pkg/errors", "golang.org/x/sys"}
	for _, module := range strings.Fields(string(out)) {
		require.Contains(t, allowed, module)
	}
}

// imports are what each package may import of others than those of Go, below the module's path "."
// for the root. A pattern that ends in "/..." stands for all below it.
var imports = map[string]string{
	".": "internal/addrrules internal/bound internal/brief internal/frames internal/guard internal/keepalive internal/limits internal/netaddr internal/neterr internal/ports internal/redirect internal/sniff " +
		"internal/statpage internal/tcpinfo rdmanet transport transport/soft",

	"internal/ports":      "internal/bound internal/netaddr internal/neterr internal/netns internal/portmap internal/sockdiag internal/statpage",
	"internal/bound":      "internal/keepalive internal/netaddr internal/neterr internal/probe internal/sockdiag golang.org/x/sys/unix",
	"internal/sockdiag":   "internal/netlink internal/probe golang.org/x/sys/unix",
	"internal/netlink":    "golang.org/x/sys/unix",
	"internal/nldev":      "internal/netlink golang.org/x/sys/unix",
	"internal/sniff":      "golang.org/x/sys/unix golang.org/x/sys/windows",
	"internal/guard":      "internal/sockfilter golang.org/x/sys/unix",
	"internal/sockfilter": "golang.org/x/sys/unix",
	"internal/keepalive":  "golang.org/x/sys/unix",
	"internal/crc32c":     "golang.org/x/sys/cpu",
	"internal/limits":     "golang.org/x/sys/unix",
	"internal/tcpinfo":    "golang.org/x/sys/unix",
	"internal/statpage":   "golang.org/x/sys/unix",
	"internal/redirect":   "transport",
	"internal/addrrules":  "",
	"internal/brief":      "",
	"internal/frames":     "",
	"internal/instant":    "",
	"internal/netaddr":    "",
	"internal/neterr":     "",
	"internal/portmap":    "",
	"internal/netns":      "golang.org/x/sys/unix",
	"internal/probe":      "golang.org/x/sys/unix",

	// For tests.
	"transport/internal/transporttest": "rdmanet transport github.com/stretchr/testify/require golang.org/x/net/nettest",
	"internal/testkit":                 ". internal/testkit/leak github.com/stretchr/testify/require golang.org/x/sys/unix",
	"internal/testkit/leak":            "go.uber.org/goleak",
	"transport/soft/internal/badpeer":  "transport/soft/internal/ddp transport/soft/internal/mpa transport/soft/internal/rdmap",
	"transport/soft/internal/wiretest": "transport/soft/internal/mpa transport/soft/internal/rdmap",

	"rdmanet":               "internal/frames internal/instant internal/limits internal/neterr internal/redirect internal/statpage rdmanet/internal/... transport github.com/pkg/errors",
	"rdmanet/internal/flow": "internal/instant rdmanet/internal/wire",
	"rdmanet/internal/wire": "",

	"transport":                     "",
	"transport/internal/pool":       "",
	"transport/internal/queue":      "transport transport/internal/pool",
	"transport/internal/regions":    "transport",
	"transport/internal/setup":      "transport",
	"transport/internal/wait":       "transport",
	"transport/internal/work":       "transport transport/internal/queue transport/internal/regions transport/internal/wait",
	"transport/soft":                "internal/frames internal/instant internal/sockfilter transport transport/internal/pool transport/internal/queue transport/internal/regions transport/internal/setup transport/internal/wait transport/internal/work transport/soft/internal/... golang.org/x/sys/unix golang.org/x/sys/windows",
	"transport/soft/internal/rdmap": "transport/soft/internal/ddp transport/soft/internal/mpa",
	"transport/soft/internal/ddp":   "",
	"transport/soft/internal/mpa":   "internal/crc32c",
	"transport/rnic":                "internal/netaddr internal/nldev transport transport/internal/wait transport/rnic/internal/... golang.org/x/sys/unix github.com/ebitengine/purego",
	"transport/rnic/internal/abi":   "",
	"transport/shm":                 "internal/netlink internal/netns internal/sockdiag transport transport/internal/pool transport/internal/queue transport/internal/regions transport/internal/setup transport/internal/wait transport/internal/work golang.org/x/sys/unix",
}

// TestImports keeps data flowing one way: front door, stream, queue pair, wire. No package knows
// one above it, and no transport another.
func TestImports(t *testing.T) {
	for _, system := range []string{"linux", "darwin", "windows"} {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			list := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}",
				".", "./internal/...", "./rdmanet/...", "./transport/...")
			list.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
			out, err := list.Output()
			require.NoError(t, err)
			for line := range strings.Lines(string(out)) {
				packages := strings.Fields(line)
				if name, ours := below(packages[0]); ours {
					checkImports(t, name, packages[1:])
				}
			}
		})
	}
}

// TestNoPlatformFiles keeps what differs between the systems out of the root.
func TestNoPlatformFiles(t *testing.T) {
	for _, system := range []string{"linux", "windows"} {
		list := exec.Command("go", "list", "-f", `{{join .IgnoredGoFiles "\n"}}`, ".")
		list.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
		out, err := list.Output()
		require.NoError(t, err)
		for _, file := range strings.Fields(string(out)) {
			require.Truef(t, strings.HasSuffix(file, "_test.go"), "%s is not for %s", file, system)
		}
	}
}

// below is a package's path below that of the module.
func below(path string) (name string, ours bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

func checkImports(t *testing.T, name string, list []string) {
	t.Helper()
	rules, ok := imports[name]
	if !ok {
		t.Errorf("package %s has no rule for what it may import", name)
		return
	}
	for _, path := range list {
		other, ours := below(path)
		first, _, _ := strings.Cut(path, "/")
		if !ours && !strings.Contains(first, ".") {
			continue // of Go
		}
		allowed := slices.ContainsFunc(strings.Fields(rules), func(rule string) bool {
			dir, all := strings.CutSuffix(rule, "...")
			return rule == other || all && strings.HasPrefix(other, dir)
		})
		if !allowed {
			t.Errorf("package %s must not import %s", name, other)
		}
	}
}
