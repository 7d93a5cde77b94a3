//go:build linux && (amd64 || arm64)

package abi

import (
	"bytes"
	_ "embed"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// The table that a C program made with rdma-core's headers.
//
//go:embed testdata/layout_lp64.txt
var committed string

var update = flag.Bool("update", false, "write testdata/layout_lp64.txt by the headers that are installed here")

// structs are the types by their names in C. Those that are only the beginning of a C struct have
// no size to compare.
var structs = []struct {
	name string
	part bool
	typ  reflect.Type
}{
	{name: "ibv_device", typ: reflect.TypeFor[Device]()},
	{name: "ibv_context", part: true, typ: reflect.TypeFor[Context]()},
	{name: "ibv_context_ops", typ: reflect.TypeFor[ContextOps]()},
	{name: "ibv_pd", typ: reflect.TypeFor[PD]()},
	{name: "ibv_mr", typ: reflect.TypeFor[MR]()},
	{name: "ibv_comp_channel", typ: reflect.TypeFor[CompChannel]()},
	{name: "ibv_cq", part: true, typ: reflect.TypeFor[CQ]()},
	{name: "ibv_qp", part: true, typ: reflect.TypeFor[QP]()},
	{name: "ibv_qp_cap", typ: reflect.TypeFor[QPCap]()},
	{name: "ibv_qp_init_attr", typ: reflect.TypeFor[QPInitAttr]()},
	{name: "ibv_global_route", typ: reflect.TypeFor[GlobalRoute]()},
	{name: "ibv_ah_attr", typ: reflect.TypeFor[AHAttr]()},
	{name: "ibv_qp_attr", typ: reflect.TypeFor[QPAttr]()},
	{name: "ibv_sge", typ: reflect.TypeFor[Sge]()},
	{name: "ibv_send_wr", typ: reflect.TypeFor[SendWR]()},
	{name: "ibv_recv_wr", typ: reflect.TypeFor[RecvWR]()},
	{name: "ibv_wc", typ: reflect.TypeFor[WC]()},
	{name: "ibv_device_attr", typ: reflect.TypeFor[DeviceAttr]()},
	{name: "ibv_port_attr", typ: reflect.TypeFor[PortAttr]()},
	{name: "ibv_async_event", typ: reflect.TypeFor[AsyncEvent]()},
	{name: "rdma_event_channel", typ: reflect.TypeFor[EventChannel]()},
	{name: "rdma_ib_addr", typ: reflect.TypeFor[IBAddr]()},
	{name: "rdma_addr", typ: reflect.TypeFor[Addr]()},
	{name: "rdma_route", typ: reflect.TypeFor[Route]()},
	{name: "rdma_cm_id", typ: reflect.TypeFor[CMID]()},
	{name: "rdma_conn_param", typ: reflect.TypeFor[ConnParam]()},
	{name: "rdma_cm_event", typ: reflect.TypeFor[CMEvent]()},
}

// members are those whose names in C do not follow from the names here.
var members = map[string]string{
	"ibv_cq.CQE":                 "cqe",
	"ibv_device_attr.MaxCQE":     "max_cqe",
	"ibv_device.Ops":             "_ops",
	"ibv_device.IBDevPath":       "ibdev_path",
	"ibv_send_wr.RemoteAddr":     "wr.rdma.remote_addr",
	"ibv_send_wr.Rkey":           "wr.rdma.rkey",
	"rdma_addr.SrcAddr":          "src_storage",
	"rdma_addr.DstAddr":          "dst_storage",
	"rdma_addr.IBAddr":           "addr.ibaddr",
	"rdma_cm_event.Conn":         "param.conn",
	"ibv_global_route.SGIDIndex": "sgid_index",
}

// member returns the C name of a field.
func member(of string, f reflect.StructField) string {
	if name, ok := members[of+"."+f.Name]; ok {
		return name
	}
	name := snake(f.Name)
	if strings.HasPrefix(name, "compat_") {
		name = "_" + name
	}
	return name
}

// snake turns MaxQPWR into max_qp_wr.
func snake(name string) string {
	for _, word := range []string{"QP", "SRQ", "CQ", "PD", "WR", "MR", "MW", "AH", "EE", "RDD", "FMR", "IPv6", "GUID", "MTU", "GID"} {
		name = strings.ReplaceAll(name, word, word[:1]+strings.ToLower(word[1:]))
	}
	var b strings.Builder
	for i, c := range name {
		if unicode.IsUpper(c) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// A row is a line of the table: a member with its offset and size, or a struct with its size.
type row struct {
	of, member   string
	offset, size uintptr
}

func (r row) String() string {
	if r.member == "" {
		return fmt.Sprintf("%s size %d", r.of, r.size)
	}
	return fmt.Sprintf("%s.%s at %d size %d", r.of, r.member, r.offset, r.size)
}

// table has the rows of all structs.
func table() []row {
	var rows []row
	for _, s := range structs {
		for i := range s.typ.NumField() {
			if f := s.typ.Field(i); f.Name != "_" {
				rows = append(rows, row{s.name, member(s.name, f), f.Offset, f.Type.Size()})
			}
		}
		if !s.part {
			rows = append(rows, row{of: s.name, size: s.typ.Size()})
		}
	}
	return rows
}

const includes = "#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/verbs.h>\n#include <rdma/rdma_cma.h>\n"

// program is a C program that prints the table as the compiler and the headers have it.
func program() string {
	var b strings.Builder
	b.WriteString(includes + "int main(void) {\n")
	for _, r := range table() {
		if r.member == "" {
			fmt.Fprintf(&b, "\tprintf(\"%s size %%zu\\n\", sizeof(struct %s));\n", r.of, r.of)
			continue
		}
		fmt.Fprintf(&b, "\tprintf(\"%[1]s.%[2]s at %%zu size %%zu\\n\", offsetof(struct %[1]s, %[2]s), sizeof(((struct %[1]s *)0)->%[2]s));\n", r.of, r.member)
	}
	return b.String() + "\treturn 0;\n}\n"
}

// assertions is a C file that compiles where the table and the numbers are true. It need not run.
func assertions() string {
	var b strings.Builder
	b.WriteString(includes)
	assert := func(c string, n any) {
		fmt.Fprintf(&b, "_Static_assert(%[1]s == %[2]d, \"%[1]s is not %[2]d\");\n", c, n)
	}
	for _, r := range table() {
		if r.member == "" {
			assert("sizeof(struct "+r.of+")", r.size)
			continue
		}
		assert("offsetof(struct "+r.of+", "+r.member+")", r.offset)
		assert("sizeof(((struct "+r.of+" *)0)->"+r.member+")", r.size)
	}
	for _, s := range structs {
		if s.part {
			assert("offsetof(struct "+s.name+", mutex)", s.typ.Size())
		}
	}
	for _, n := range numbers {
		assert(n.name, n.value)
	}
	return b.String()
}

// A compiler makes code for one kind of machine.
type compiler struct {
	machine string
	command []string
}

// compilers are this machine's and the one for the other of the two kinds that are supported. The
// other's has no headers of rdma-core of its own, and these are the same for all machines; the C
// library's must be its own, so they come first.
var compilers = []compiler{
	{"this machine", []string{"cc"}},
	{"amd64", []string{"x86_64-linux-gnu-gcc", "-idirafter", "/usr/include"}},
	{"arm64", []string{"aarch64-linux-gnu-gcc", "-idirafter", "/usr/include"}},
}

// there reports whether the compiler is installed and finds the headers, and if not, why.
func (c compiler) there(t *testing.T) error {
	if _, err := exec.LookPath(c.command[0]); err != nil {
		return err
	}
	if out, err := c.run(t, includes, "-fsyntax-only"); err != nil {
		return fmt.Errorf("%s does not find the headers of libibverbs-dev and librdmacm-dev: %s", c.command[0], firstLine(out))
	}
	return nil
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return string(line)
}

// run has the compiler read a C source.
func (c compiler) run(t *testing.T, source string, args ...string) ([]byte, error) {
	file := filepath.Join(t.TempDir(), "source.c")
	require.NoError(t, os.WriteFile(file, []byte(source), 0o644))
	args = append(append(c.command[1:len(c.command):len(c.command)], "-Wall", "-Werror"), append(args, file)...)
	return exec.Command(c.command[0], args...).CombinedOutput()
}

// TestLayout compares the structs with what a C program prints that is compiled with the installed
// headers; where there is no compiler or no header, with what such a program has printed elsewhere.
func TestLayout(t *testing.T) {
	var ours strings.Builder
	for _, r := range table() {
		fmt.Fprintln(&ours, r)
	}
	if err := compilers[0].there(t); err != nil {
		t.Logf("compared with testdata/layout_lp64.txt only: %v", err)
		require.Equal(t, committed, ours.String())
		return
	}
	binary := filepath.Join(t.TempDir(), "layout")
	out, err := compilers[0].run(t, program(), "-o", binary)
	require.NoError(t, err, "%s", out)
	theirs, err := exec.Command(binary).Output()
	require.NoError(t, err)
	require.Equal(t, string(theirs), ours.String())
	if *update {
		require.NoError(t, os.WriteFile("testdata/layout_lp64.txt", theirs, 0o644))
		return
	}
	require.Equal(t, string(theirs), committed, "testdata/layout_lp64.txt is not what the headers say: go test -update")
}

// TestNumbers finds that no constant is missing from the numbers that TestAssertions checks.
func TestNumbers(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	n := 0
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST && ast.IsExported(g.Specs[0].(*ast.ValueSpec).Names[0].Name) {
				n += len(g.Specs)
			}
		}
	}
	require.Len(t, numbers, n)
}

// TestAssertions has the compilers of both kinds of machines check the structs and the numbers: it
// gives them a file with a _Static_assert for each. So arm64 is checked on amd64 without a machine
// that could run its programs, and the other way round.
func TestAssertions(t *testing.T) {
	for _, c := range compilers {
		t.Run(c.machine, func(t *testing.T) {
			if err := c.there(t); err != nil {
				t.Logf("not checked by a compiler for %s: %v", c.machine, err)
				return
			}
			out, err := c.run(t, assertions(), "-fsyntax-only")
			require.NoError(t, err, "%s", out)
			// An assertion that does not hold must not compile, or the test is worth nothing.
			_, err = c.run(t, assertions()+"_Static_assert(sizeof(struct ibv_sge) == 17, \"\");\n", "-fsyntax-only")
			require.Error(t, err)
		})
	}
}

func TestCMEventType(t *testing.T) {
	require.Equal(t, "address resolved", CMEventAddrResolved.String())
	require.Equal(t, "timewait exit", CMEventTimewaitExit.String())
	require.Equal(t, "event 16", CMEventType(16).String())
}
