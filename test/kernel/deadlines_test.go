//go:build linux

package kernel

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The clock is set by an hour to and fro, or one of two processes is stopped, while connections
// between them are used: all bytes arrive, and deadlines are neither early nor an hour late.
func TestDeadlines(t *testing.T) {
	g := theGuest(t)
	var table strings.Builder
	table.WriteString("| | path | there and back | deadlines that passed | the latest | a timer of package time, the latest |\n|---|---|---|---|---|---|\n")
	said := regexp.MustCompile(`(\d+ bytes) there and back, (\d+) deadlines, at most 0s early and (\S+) late, timers (\S+) late`)
	for _, harm := range []struct{ name, args string }{
		{"clock set by an hour, to and fro", "-step 1h"},
		{"either process stopped for 2 s, by turns", "-stop"},
	} {
		for _, over := range []struct{ policy, path, args string }{
			{"never", "tcp", ""},
			{"auto", "tcp", ""},
			{"prefer", "soft", ""},
			{"require", "soft", ""},
			{"require", "shm", "-shm"},
		} {
			t.Run(harm.args+"/"+over.policy+"/"+over.path, func(t *testing.T) {
				length := "8s"
				if !*fullFlag {
					if length = "4s"; over.path != "soft" || over.policy != "require" {
						t.Skip("only with -full")
					}
				}
				record(t, cell{"package iwarp", "both ends", "127.0.0.1", harm.name + ", " + over.policy + ", " + over.path})
				p := g.start(t, words("env IWARP_OFFLOAD=%s go-deadlines -for %s %s %s", over.policy, length, harm.args, over.args)...)
				found := said.FindStringSubmatch(succeeds(t, p))
				require.NotNil(t, found, p.Stdout())
				require.Contains(t, p.Stderr(), "path: "+over.path)
				fmt.Fprintf(&table, "| %s | %s, %s | %s | %s | %s | %s |\n", harm.name, over.policy, over.path, found[1], found[2], found[3], found[4])
			})
		}
	}
	t.Log("\n" + table.String())
	section("Deadlines while the clock is set and processes are stopped", "In an emulated guest.\n\n"+table.String())
	g.healthy(t)
}
