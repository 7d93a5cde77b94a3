package suites

import (
	"bytes"
	"encoding/json"
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

// standIns are the import paths that this module and what it needs have in an overlay: packages of
// the standard library import nothing with a dot in its first element.
var standIns = []struct{ path, name string }{
	{"github.com/rdmanet/iwarp", "iwarp"},
	{"github.com/pkg/errors", "iwarp/errors"},
	{"golang.org/x/sys/unix", "iwarp/unix"},
}

// hooks are put into package net. A context that has passed a hook does not meet it again, so that
// the module can use package net itself.
const hooks = `
type hooked struct{}

var (
	DialHook   func(d *Dialer, ctx context.Context, network, address string) (Conn, error)
	ListenHook func(lc *ListenConfig, ctx context.Context, network, address string) (Listener, error)
)
`

var hookCalls = map[string]string{
	"func (d *Dialer) DialContext(ctx context.Context, network, address string) (Conn, error) {\n": `
	if DialHook != nil && ctx.Value(hooked{}) == nil {
		return DialHook(d, context.WithValue(ctx, hooked{}, true), network, address)
	}
`,
	"func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (Listener, error) {\n": `
	if ListenHook != nil && ctx.Value(hooked{}) == nil {
		return ListenHook(lc, context.WithValue(ctx, hooked{}, true), network, address)
	}
`,
}

// An overlay is what the go command's -overlay needs.
type overlay struct {
	dir     string
	src     string // of the standard library
	Replace map[string]string
}

// newOverlay writes an overlay and returns the name of its file.
func newOverlay(t *testing.T) string {
	dir := t.TempDir()
	o := &overlay{dir: dir, src: filepath.Join(goroot(t), "src"), Replace: make(map[string]string)}
	o.addModule(t)
	o.addHooks(t)
	b, err := json.Marshal(o)
	require.NoError(t, err)
	name := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return name
}

func goroot(t *testing.T) string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// add has the file at a path below the standard library's sources say text.
func (o *overlay) add(t *testing.T, path, text string) {
	name := filepath.Join(o.dir, strings.ReplaceAll(path, "/", "_"))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	o.Replace[filepath.Join(o.src, path)] = name
}

// addModule adds this module and all it needs.
func (o *overlay) addModule(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags=purego", "-deps", "-json=ImportPath,Dir,GoFiles,Standard", "github.com/rdmanet/iwarp").Output()
	require.NoError(t, err)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir string
			GoFiles         []string
			Standard        bool
		}
		if err := dec.Decode(&p); err == io.EOF {
			return
		} else if err != nil {
			require.NoError(t, err)
		}
		if p.Standard {
			continue
		}
		for _, f := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, f))
			require.NoError(t, err)
			text := buildTags.ReplaceAllString(renameImports(string(b)), "") // go list has obeyed them
			if p.ImportPath == "golang.org/x/sys/unix" {
				text = withoutAssembly(text)
			}
			o.add(t, standIn(p.ImportPath)+"/"+f, text)
		}
	}
}

func (o *overlay) addHooks(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(o.src, "net/dial.go"))
	require.NoError(t, err)
	text := string(b)
	for at, call := range hookCalls {
		require.Equal(t, 1, strings.Count(text, at), at)
		text = strings.Replace(text, at, at+call, 1)
	}
	o.add(t, "net/dial.go", text+hooks)
	b, err = os.ReadFile("testdata/hook.go.txt")
	require.NoError(t, err)
	o.add(t, "iwarp/hook/hook.go", string(b))
	o.add(t, "testing/iwarphook.go", "package testing\n\nimport _ \"iwarp/hook\"\n")
}

func standIn(path string) string {
	for _, s := range standIns {
		if rest, ok := strings.CutPrefix(path, s.path); ok && (rest == "" || rest[0] == '/') {
			return s.name + rest
		}
	}
	return path
}

func renameImports(text string) string {
	for _, s := range standIns {
		text = strings.ReplaceAll(text, `"`+s.path+`"`, `"`+s.name+`"`)
		text = strings.ReplaceAll(text, `"`+s.path+`/`, `"`+s.name+`/`)
	}
	return text
}

var (
	buildTags     = regexp.MustCompile(`(?m)^//go:build .*\n`)
	syscallDecl   = regexp.MustCompile(`(?m)^func ((?:Raw)?Syscall6?)\((.*) uintptr\) \(r1, r2 uintptr, err syscall\.Errno\)$`)
	noErrorDecl   = regexp.MustCompile(`(?m)^func (Raw|)SyscallNoError\(.*$`)
	timeofdayDecl = regexp.MustCompile(`(?m)^func gettimeofday\(.*$`)
)

// withoutAssembly gives bodies to the functions of package unix that are written in assembly: the
// assembler needs the folder of a package, and an overlay has none.
func withoutAssembly(text string) string {
	text = strings.ReplaceAll(text, "//go:noescape\n", "")
	text = syscallDecl.ReplaceAllString(text, "$0 { return syscall.$1($2) }")
	text = noErrorDecl.ReplaceAllString(text, "$0 {\n\tr1, r2, _ = ${1}Syscall(trap, a1, a2, a3)\n\treturn\n}")
	if !timeofdayDecl.MatchString(text) {
		return text
	}
	text = strings.Replace(text, `import "syscall"`, "import (\n\t\"syscall\"\n\t\"unsafe\"\n)", 1)
	body := "_, _, err = RawSyscall(SYS_GETTIMEOFDAY, uintptr(unsafe.Pointer(tv)), 0, 0)"
	return timeofdayDecl.ReplaceAllString(text, fmt.Sprintf("$0 {\n\t%s\n\treturn\n}", body))
}
