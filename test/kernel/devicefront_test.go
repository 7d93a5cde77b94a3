//go:build linux

package kernel

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// buildFileservers builds the file server of the examples in two ways, with and without the import
// that switches devices on. Neither has shared memory, as both ends are on one host.
func buildFileservers() error {
	dir, err := filepath.Abs("../../examples/fileserver")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "main.go"))
	if err != nil {
		return err
	}
	const switchOn = `_ "github.com/rdmanet/iwarp/transport/shm"`
	for name, line := range map[string]string{"fileserver": `_ "github.com/rdmanet/iwarp/transport/rnic"`, "fileserver-soft": ""} {
		file, overlay := filepath.Join(bin, name+".go.txt"), filepath.Join(bin, name+".json")
		for file, text := range map[string]string{
			file:    strings.Replace(string(text), switchOn, line, 1),
			overlay: fmt.Sprintf("{\"Replace\": {%q: %q}}", filepath.Join(dir, "main.go"), file),
		} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				return err
			}
		}
		args := []string{"build", "-C", dir, "-overlay", overlay, "-o", filepath.Join(bin, name), "."}
		if err := compile(exec.Command("go", args...), name); err != nil {
			return err
		}
	}
	return nil
}

const served = "/tmp/www/files/file"

// serveFiles starts a server of a folder with a file of random content, and returns the SHA-256 of
// that. Clients ask for that, too, so it lies where a server that does not make it finds it.
func (g *guest) serveFiles(t *testing.T, h hca, p pair, size int, server ...string) (sum string) {
	t.Helper()
	g.run(t, "sh", "-ec", fmt.Sprintf(`mkdir -p /tmp/www/files /tmp/www/sha256
		head -c %d /dev/urandom >%s
		sha256sum %[2]s | cut -d" " -f1 | tr -d "\n" >/tmp/www/sha256/%[3]s`, size, served, filepath.Base(served)))
	s := g.startFor(t, groupLimit, server...)
	if strings.HasPrefix(server[0], "fileserver") { // the kernel listens before devices do
		require.NoError(t, s.WaitOutput("serving on"))
	} else {
		eventually(t, s, func() bool { return g.listens(t, p) })
	}
	return strings.Fields(g.run(t, "sha256sum", served))[0]
}

// fetchFile gets the file by a policy in the environment, and checks which way that went. A dial
// that may fall back waits for an emulated machine no longer than for others, so it is tried again
// where that was too short for the way.
func (g *guest) fetchFile(t *testing.T, p pair, policy, sum, way string) {
	t.Helper()
	var out string
	for range 3 {
		out = g.fetchOnce(t, p, policy, sum)
		if regexp.MustCompile(way).MatchString(out) || !strings.Contains(out, "handshake timed out") {
			break
		}
	}
	require.Regexp(t, way, out)
}

func (g *guest) fetchOnce(t *testing.T, p pair, policy, sum string) (path string) {
	t.Helper()
	out := succeeds(t, g.startFor(t, groupLimit, "env", "IWARP_OFFLOAD="+policy, "fileserver", "-connect", p.addr+":"+p.port,
		"-offload", "auto", "-file", filepath.Base(served), "-save", "/tmp/fetched"))
	require.Equal(t, sum, strings.Fields(g.run(t, "sha256sum", "/tmp/fetched"))[0])
	return out
}

func (p pair) fileserver(program string) []string {
	return []string{program, "-listen", p.addr + ":" + p.port, "-dir", filepath.Dir(served)}
}

// The main job over each device: the file server of the examples, with the import of transport/rnic
// and no other change.
func TestDeviceFileserver(t *testing.T) {
	g := theGuest(t)
	for _, h := range hcas(t, g) {
		t.Run(h.name, func(t *testing.T) {
			record(t, cell{"net/http", "both ends", h.name, "16 MiB, SHA-256 compared, IWARP_OFFLOAD=require"})
			p := h.pair(g)
			sum := g.serveFiles(t, h, p, 16<<20, p.fileserver("fileserver")...)
			g.fetchFile(t, p, "require", sum, "transport rnic")

			// The same address and port serve clients that know nothing of RDMA, and iWARP in
			// software.
			url := "http://" + p.addr + ":" + p.port + "/files/" + filepath.Base(served)
			require.Equal(t, sum, strings.Fields(g.run(t, "sh", "-ec", "curl -sSf "+url+" | sha256sum"))[0])
			out := g.run(t, "fileserver-soft", "-connect", p.addr+":"+p.port, "-offload", "require", "-file", filepath.Base(served))
			require.Contains(t, out, "transport soft")
		})
	}
}

// Auto takes plain TCP, as both devices are in software, with the reason. Prefer takes any device,
// else software.
func TestDeviceFallback(t *testing.T) {
	g := theGuest(t)
	for _, h := range hcas(t, g) {
		plain := func(p pair) []string {
			return []string{"busybox", "httpd", "-f", "-p", p.addr + ":" + p.port, "-h", "/tmp/www"}
		}
		none := "plain TCP .reason: no (rdma device|route through an rdma device)"
		for _, f := range []struct {
			name          string
			before, after string // what happens in the guest first, and how it is undone
			server        func(p pair) []string
			auto, prefer  string // what the client says; auto leaves the device alone where that is empty
		}{
			{name: "both have it", prefer: "transport rnic"},
			{name: "device removed", before: "rdma link delete " + h.device, after: h.add(), auto: none, prefer: "transport soft"},
			{name: "module unloaded", before: h.unload, after: h.load, auto: none, prefer: "transport soft"},
			{
				name: "link down", before: "ip link set " + h.netdev + " down", after: "ip link set " + h.netdev + " up",
				auto: none, prefer: "transport soft",
			},
			{name: "peer is plain TCP", server: plain, prefer: "plain TCP .reason: peer does not speak iwarp"},
			{
				name: "peer has software only", server: func(p pair) []string { return p.fileserver("fileserver-soft") },
				prefer: "transport soft",
			},
		} {
			t.Run(h.name+"/"+f.name, func(t *testing.T) {
				record(t, cell{"package iwarp", "both ends", h.name, "auto and prefer: " + f.name})
				if f.before != "" {
					// What was used may linger for a second after Close.
					eventually(t, nil, func() bool {
						s := g.start(t, "sh", "-ec", f.before)
						exit, err := s.Wait()
						return err == nil && exit == 0
					})
					t.Cleanup(func() { g.run(t, "sh", "-ec", f.after) })
				}
				p := h.pair(g)
				server := p.fileserver("fileserver")
				if f.server != nil {
					server = f.server(p)
				}
				sum := g.serveFiles(t, h, p, 1<<20, server...)
				g.fetchFile(t, p, "auto", sum, cmp.Or(f.auto, leftAlone))
				g.fetchFile(t, p, "prefer", sum, f.prefer)
			})
		}
	}
}

// A server that was there before the device serves its clients, too, and again after the device was
// made anew.
func TestDevicePlugged(t *testing.T) {
	g := theGuest(t)
	for _, h := range hcas(t, g) {
		t.Run(h.name, func(t *testing.T) {
			record(t, cell{"package iwarp", "both ends", h.name, "the device is plugged in after Listen"})
			unplug := func() {
				eventually(t, nil, func() bool {
					exit, err := g.start(t, "rdma", "link", "delete", h.device).Wait()
					return err == nil && exit == 0
				})
			}
			unplug()
			plugged := false
			t.Cleanup(func() {
				if !plugged {
					g.run(t, "sh", "-ec", h.add())
				}
			})
			p := h.pair(g)
			sum := g.serveFiles(t, h, p, 1<<20, p.fileserver("fileserver")...)
			g.fetchFile(t, p, "prefer", sum, "transport soft")
			listens := regexp.MustCompile("state LISTEN .*src-addr " + regexp.QuoteMeta(h.addr) + ":")
			for range 2 {
				g.run(t, "sh", "-ec", h.add())
				plugged = true
				eventually(t, nil, func() bool { return listens.MatchString(g.run(t, "rdma", "resource", "show", "cm_id")) })
				// What a client knew of the server is remembered by its process alone.
				g.fetchFile(t, p, "prefer", sum, "transport rnic")
				unplug()
				plugged = false
			}
		})
	}
}
