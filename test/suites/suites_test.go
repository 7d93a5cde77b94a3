package suites

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	run  = flag.Bool("suites", false, "run the suites")
	full = flag.Bool("full", false, "run also those that take long")
)

// A suite is packages of one module with tests.
type suite struct {
	name     string
	module   string // with its version; none for the standard library
	packages []string
	args     []string // for go test
	long     bool
	noAuto   string // why it is not run with plain clients
}

var all = []suite{
	{name: "http", packages: []string{"net/http"}, args: []string{"-short"}},
	{name: "http-more", packages: []string{"net/http/httputil", "net/http/httptest", "net/http/httptrace"}},
	{name: "tls", packages: []string{"crypto/tls"}, args: []string{"-short"},
		noAuto: "its localPipe gives a silent client a second to be accepted, as FirstByteTimeout does"},
	{name: "rpc", packages: []string{"net/rpc", "net/rpc/jsonrpc"}},
	{name: "smtp", packages: []string{"net/smtp", "net/textproto"}},
	{name: "http2", module: "golang.org/x/net@v0.62.0", packages: []string{"./http2/...", "./netutil", "./websocket", "./proxy"}, args: []string{"-short"}},
	{name: "grpc-transport", module: "google.golang.org/grpc@v1.85.0", packages: []string{"./internal/transport", "./credentials/..."}},
	{name: "grpc-end2end", module: "google.golang.org/grpc@v1.85.0", packages: []string{"./test"}, long: true},
	{name: "grpc-more", module: "google.golang.org/grpc@v1.85.0", packages: []string{"./interop/...", "./health", "./reflection/...", "./stats/..."}, long: true},
	{name: "http-long", packages: []string{"net/http"}, long: true},
}

// ways are the policies that a suite runs with. With the last one the clients are plain, as there
// is no device, and the listeners look what they are.
var ways = []string{"require", "prefer", "auto"}

// TestSuites runs each suite over plain TCP, and with each policy.
func TestSuites(t *testing.T) {
	if !*run {
		t.Skip("takes minutes: run with -suites")
	}
	overlay := newOverlay(t)
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			if s.long && !*full {
				t.Skip("takes long: run with -full")
			}
			dir := s.fetch(t)
			plain := s.run(t, dir, "", "")
			require.NotZero(t, plain.count("pass"), "nothing passes over plain tcp")
			for _, way := range ways {
				t.Run(way, func(t *testing.T) {
					if way == "auto" && s.noAuto != "" {
						t.Skip(s.noAuto)
					}
					excepted := exceptions.of(s, way)
					ours := s.run(t, dir, overlay, way, "-skip", skipping(excepted))
					worse := ours.worseThan(plain, excepted)
					if len(worse) > 0 {
						worse = s.again(t, dir, overlay, way, ours, worse)
					}
					t.Logf("plain tcp: %d passed, %d failed, %.1f s; %s: %d passed, %d excepted, %.1f s, ratio %.2f", plain.count("pass"), plain.count("fail"),
						plain.took, way, ours.count("pass"), len(excepted), ours.took, ours.took/plain.took)
					notRun := 0
					for _, name := range worse {
						if a, ok := ours.actions[name]; ok {
							t.Errorf("%s: %s\n%s", name, a, tail(ours.output[name]))
						} else {
							notRun++
						}
					}
					require.Zero(t, notRun, "tests did not run")
				})
			}
		})
	}
}

// fetch returns the folder to run in: a copy of the module, or of nothing.
func (s *suite) fetch(t *testing.T) string {
	dir := t.TempDir()
	if s.module == "" {
		return dir
	}
	cmd := exec.Command("go", "mod", "download", "-json", s.module)
	cmd.Dir = dir
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	var m struct{ Dir string }
	require.NoError(t, json.Unmarshal(out, &m))
	require.NoError(t, os.CopyFS(dir, os.DirFS(m.Dir)))
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, 0o755)
	}))
	return dir
}

// results are those of one run, by package and test.
type results struct {
	actions map[string]string
	output  map[string]string
	took    float64 // seconds of its packages' test binaries, without their build
	crashed bool    // a package ended before all its tests had
}

// run runs the suite with a policy, or over plain TCP if there is no overlay.
func (s *suite) run(t *testing.T, dir, overlay, way string, more ...string) *results {
	args := append([]string{"test", "-json", "-vet=off", "-count=1", "-timeout=15m"}, s.args...)
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(t.Context(), "go", slices.Concat(args, more, s.packages)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "IWARP_OFFLOAD="+way)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	r := parse(t, bytes.NewReader(out))
	if err != nil {
		require.IsType(t, new(exec.ExitError), err)
	}
	require.NotEmpty(t, r.actions, "%s%s", stderr.String(), tail(string(out)))
	return r
}

func parse(t *testing.T, r io.Reader) *results {
	res := &results{actions: make(map[string]string), output: make(map[string]string)}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct {
			Action, Package, Test, Output string
			Elapsed                       float64
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the go command's own words
		}
		name := e.Package + " " + e.Test
		switch e.Action {
		case "pass", "fail", "skip":
			if e.Test == "" {
				res.took += e.Elapsed
			} else {
				res.actions[name] = e.Action
			}
		case "output":
			res.output[name] += e.Output
			res.crashed = res.crashed || strings.HasPrefix(e.Output, "panic: ") || strings.HasPrefix(e.Output, "fatal error: ")
		}
	}
	require.NoError(t, lines.Err())
	return res
}

func (r *results) count(action string) (n int) {
	for _, a := range r.actions {
		if a == action {
			n++
		}
	}
	return n
}

// worseThan returns the tests that pass over plain TCP and do not here, without those that only
// fail as a part of them does.
func (r *results) worseThan(plain *results, excepted []exception) []string {
	var worse []string
	for _, name := range slices.Sorted(maps.Keys(plain.actions)) {
		if plain.actions[name] != "pass" || r.actions[name] == "pass" {
			continue
		}
		if !slices.ContainsFunc(excepted, func(e exception) bool { return e.covers(name) }) {
			worse = append(worse, name)
		}
	}
	return slices.DeleteFunc(worse, func(name string) bool {
		return slices.ContainsFunc(worse, func(part string) bool { return strings.HasPrefix(part, name+"/") })
	})
}

// again runs tests that failed once more, alone, and returns those that fail again: some depend on
// time. After a crash there is nothing to run again.
func (s *suite) again(t *testing.T, dir, overlay, way string, r *results, names []string) []string {
	if r.crashed {
		return names
	}
	var tests []string
	for _, name := range names {
		_, test, _ := strings.Cut(name, " ")
		top, _, _ := strings.Cut(test, "/")
		if !slices.Contains(tests, top) {
			tests = append(tests, top)
		}
	}
	t.Logf("once more: %v", names)
	r = s.run(t, dir, overlay, way, "-run", "^("+strings.Join(tests, "|")+")$")
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return r.actions[name] == "pass" })
}

func tail(s string) string {
	const most = 3000
	if len(s) > most {
		return fmt.Sprintf("[...]%s", s[len(s)-most:])
	}
	return s
}
