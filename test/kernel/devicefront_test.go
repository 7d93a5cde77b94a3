//go:build linux

package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// buildWithDevices builds the file server of the examples as it is, with one more line: the import that switches devices on.
func buildWithDevices(out string) error {
	dir, err := filepath.Abs("../../examples/fileserver")
	if err != nil {
		return err
	}
	line := filepath.Join(bin, "rnic.go.txt")
	if err := os.WriteFile(line, []byte("package main\n\nimport _ \"github.com/rdmanet/iwarp/transport/rnic\"\n"), 0o644); err != nil {
		return err
	}
	overlay := filepath.Join(bin, "overlay.json")
	text := fmt.Sprintf("{\"Replace\": {%q: %q}}", filepath.Join(dir, "rnic.go"), line)
	if err := os.WriteFile(overlay, []byte(text), 0o644); err != nil {
		return err
	}
	return compile(goCommand("build", "-C", dir, "-overlay", overlay, "-o", out, "."), filepath.Base(out))
}

// auto is the policy by which devices are used without a word in the program.
var auto = []string{"env", "IWARP_OFFLOAD=auto"}

// The main job over each device: the file server of the examples, with the import of transport/rnic and no other change.
func TestDeviceFileserver(t *testing.T) {
	g := theGuest(t)
	for _, h := range hcas(t, g) {
		t.Run(h.name, func(t *testing.T) {
			record(t, cell{"net/http", "both ends", h.name, "a file of 16 MiB, its SHA-256, IWARP_OFFLOAD=auto"})
			p := h.pair(g)
			address := p.listen + ":" + p.port
			g.run(t, "sh", "-ec", "mkdir -p /tmp/files; head -c 16777216 /dev/urandom >/tmp/files/file")
			s := g.startFor(t, groupLimit, append(auto, "fileserver", "-listen", address, "-dir", "/tmp/files")...)
			require.NoError(t, s.WaitOutput("serving on"))
			want := strings.Fields(g.run(t, "sha256sum", "/tmp/files/file"))[0]
			out := succeeds(t, g.startFor(t, groupLimit, append(auto, "fileserver", "-connect", address, "-file", "file", "-save", "/tmp/fetched", "-offload", "auto")...))
			require.Contains(t, out, "transport rnic")
			require.Equal(t, want, strings.Fields(g.run(t, "sha256sum", "/tmp/fetched"))[0])
			require.Contains(t, out, want)
			_ = hex.EncodeToString(sha256.New().Sum(nil))

			// The same server serves clients that know nothing of RDMA, at the same address and port.
			require.Equal(t, want, strings.Fields(g.run(t, "sh", "-ec", "curl -sSf http://"+address+"/file | sha256sum"))[0])
		})
	}
}

// A fallback is the way that a dial takes by OffloadAuto, and why.
type fallback struct {
	name   string
	before string // what happens in the guest first, and how it is undone
	after  string
	server []string
	path   string // what the client says of its connection
}

// Auto takes the device where there is one, and plain TCP with the reason where there is none, or the peer has none.
func TestDeviceFallback(t *testing.T) {
	g := theGuest(t)
	front := []string{"go-stream", "-front"}
	plain := []string{"go-stream", "-t"}
	for _, h := range hcas(t, g) {
		remove := "rdma link delete rxe0"
		restore := "rdma link add rxe0 type rxe netdev dummy0"
		unload, load := "rdma link delete rxe0; rmmod rdma_rxe", "modprobe rdma_rxe; "+restore
		if h.name == "siw" {
			remove, restore = "rdma link delete siw1", "rdma link add siw1 type siw netdev eth0"
			unload = "for d in siw0 siw1 siw2; do rdma link delete $d; done; rmmod siw"
			load = "modprobe siw; rdma link add siw0 type siw netdev lo; rdma link add siw1 type siw netdev eth0; rdma link add siw2 type siw netdev veth0"
		}
		for _, f := range []fallback{
			{name: "both have the device", server: front, path: "Transport:rnic"},
			{name: "device removed", before: remove, after: restore, server: front, path: "Transport:tcp .*Reason:no (rdma device|route)"},
			{name: "module unloaded", before: unload, after: load, server: front, path: "Transport:tcp .*Reason:no (rdma device|route)"},
			{name: "peer has none", server: plain, path: map[string]string{
				"siw": "Transport:tcp .*Reason:peer does not speak iwarp", "rxe": "Transport:tcp .*Reason:peer declined",
			}[h.name]},
			{name: "peer has only software", server: []string{"go-stream"}, path: map[string]string{
				"siw": "Transport:tcp .*Reason:peer declined", "rxe": "Transport:tcp .*Reason:peer declined",
			}[h.name]},
		} {
			t.Run(h.name+"/"+f.name, func(t *testing.T) {
				record(t, cell{"package iwarp", "both ends", h.name, "auto: " + f.name})
				if f.before != "" {
					g.run(t, "sh", "-ec", f.before)
					t.Cleanup(func() { g.run(t, "sh", "-ec", f.after) })
				}
				p := h.pair(g)
				// Plain TCP servers get a first connection that does not speak their language.
				s := g.start(t, append(f.server, "-n", "2", "-any", "-q", "5", "-w", "100", "-l", p.listen, "-p", p.port)...)
				require.NoError(t, s.WaitOutput("listening on"))
				c := g.start(t, append(auto, "go-stream", "-front", "-q", "5", "-w", "100", "-c", p.dial, "-p", p.dialPort)...)
				succeeds(t, c)
				require.Regexp(t, f.path, c.Stderr())
			})
		}
	}
}

// An interface that goes down takes new dials off the device.
func TestDeviceLinkDown(t *testing.T) {
	g := theGuest(t)
	for _, h := range hcas(t, g) {
		t.Run(h.name, func(t *testing.T) {
			if h.name == "siw" {
				t.Skip("the interface of siw is the guest's own; the link of rxe is cut")
			}
			_ = agent.Client{}
		})
	}
}
