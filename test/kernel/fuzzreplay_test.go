//go:build linux

package kernel

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A corpus is what the fuzzing of a package of ours starts from.
type corpus struct {
	folder string // below transport/soft
	fpdus  bool   // it is for a connection that is open
	quick  bool
}

var corpora = []corpus{
	{folder: "internal/mpa/testdata/fuzz/FuzzParseRequest", quick: true},
	{folder: "internal/mpa/testdata/fuzz/FuzzParseReply"},
	{folder: "testdata/fuzz/FuzzHandshake"},
	{folder: "internal/mpa/testdata/fuzz/FuzzFPDUStream", fpdus: true, quick: true},
	{folder: "internal/ddp/testdata/fuzz/FuzzTagged", fpdus: true},
	{folder: "internal/ddp/testdata/fuzz/FuzzUntagged", fpdus: true},
	{folder: "internal/rdmap/testdata/fuzz/FuzzValidate", fpdus: true},
	{folder: "internal/rdmap/testdata/fuzz/FuzzReadRequest", fpdus: true},
	{folder: "internal/rdmap/testdata/fuzz/FuzzTerminate", fpdus: true},
}

var outcome = regexp.MustCompile(`(?m)^[^:\n]+: (.*)$`)

// Our fuzz corpora as the input of a listener on siw, and of its connections: it goes on listening,
// and the kernel is well.
func TestFuzzReplay(t *testing.T) {
	g := theGuest(t)
	r := g.route("host")
	r.needs(t)
	var table strings.Builder
	table.WriteString("| corpus | outcomes |\n|---|---|\n")
	for _, c := range corpora {
		if !c.quick && !*fullFlag {
			continue
		}
		t.Run(c.folder, func(t *testing.T) {
			this := cell{"rping -P (siw)", "client", "host", "corpus " + c.folder}
			record(t, this)
			p := g.newPair(false, r)
			before := g.rdmaResources(t)
			s := g.startFor(t, groupLimit, append([]string{"rping", "-P"}, rpingArgs(p, true, 64)...)...)
			g.awaitListener(t, s, p)
			args := []string{"badpeer", "-to", p.addr + ":" + p.port, "-replay", "../../transport/soft/" + c.folder}
			if c.fpdus {
				args = append(args, "-fpdus")
			}
			replay := r.ours.startFor(t, groupLimit, args...)
			exit, err := replay.Wait()
			require.NoError(t, err)
			log, err := g.newKernelLog()
			require.NoError(t, err)
			bug := kernelBug.FindString(log)
			require.True(t, exit == 0 || bug != "", replay.Stderr())
			out := replay.Stdout()
			counts := make(map[string]int)
			for _, m := range outcome.FindAllStringSubmatch(out, -1) {
				counts[m[1]]++
			}
			require.NotEmpty(t, counts)
			var said []string
			for _, o := range slices.Sorted(maps.Keys(counts)) {
				said = append(said, fmt.Sprintf("%d: %s", counts[o], o))
			}
			fmt.Fprintf(&table, "| %s | %s |\n", c.folder, strings.Join(said, "; "))
			if bug != "" {
				// The entry is the one after the last whose outcome is known.
				fault(t, this, bug+" at the entry behind "+lastLine(out))
				g = reboot(t)
				t.Skip("the kernel has found a bug of its own")
			}
			// It serves as before, and with its end all is free. Of two requests that come at once
			// rping may forget one.
			g.run(t, "sh", "-c", `for i in 1 2 3; do timeout 5 "$@" && exit 0; done; exit 1`, "sh",
				"rping", "-c", "-a", p.addr, "-p", p.port, "-C", "5", "-V")
			s.Kill()
			g.awaitResources(t, before)
		})
	}
	section("Fuzz corpora sent to siw", "Each entry on a connection of its own; with FPDUs, after a handshake without CRC.\n\n"+table.String())
}
