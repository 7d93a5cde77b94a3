//go:build linux

package kernel

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// kernelBug is what a kernel says that has found a fault of its own, and not of a program.
var kernelBug = regexp.MustCompile(`kernel BUG at .*|(?:BUG|Oops|WARNING): .*|general protection fault[:,].*|Call Trace:|refcount_t: .*|.*\bleak.*`)

// newKernelLog is what the guest's kernel has logged since the last call.
func (g *guest) newKernelLog() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cellLimit)
	defer cancel()
	p, err := g.Start(ctx, "dmesg", "-c")
	if err != nil {
		return "", err
	}
	if _, err := p.Wait(); err != nil {
		return "", err
	}
	g.logged += p.Stdout()
	return p.Stdout(), nil
}

// lastWords is the end of what the guest's kernel has logged.
func (g *guest) lastWords() string {
	if g == nil {
		return "nothing, it was not booted"
	}
	if _, err := g.newKernelLog(); err != nil {
		return err.Error()
	}
	const most = 4000
	return g.logged[max(0, len(g.logged)-most):]
}

// healthy checks that the kernel has found no fault of its own since the last look, and returns
// what it has logged.
func (g *guest) healthy(t *testing.T) string {
	t.Helper()
	log, err := g.newKernelLog()
	require.NoError(t, err)
	require.Empty(t, kernelBug.FindString(log), log)
	return log
}

// noTerminate checks that siw has logged no Terminate from its peer since the last look, either,
// but for those that it has earned.
func (g *guest) noTerminate(t *testing.T) {
	t.Helper()
	log := g.healthy(t)
	require.LessOrEqual(t, strings.Count(log, "TERMINATE"), int(g.terminates.Swap(0)), "siw got a Terminate: %s", log)
}
