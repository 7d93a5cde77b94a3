//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

const (
	guestAddr = "10.0.2.15" // the guest's, served by siw
	rxeAddr   = "10.9.0.1"  // the guest's, served by rxe

	agentPort  = 7000
	firstPort  = 7100
	guestPorts = 500 // that take turns, from firstPort on

	prepareLimit = 25 * time.Minute // the installation of packages included
	bootLimit    = 3 * time.Minute  // preparation included when the cache is there
	vmLimit      = 60 * time.Minute
	cellLimit    = time.Minute

	groupLimit   = 5 * time.Minute  // for the tests that share a server, and for a dissector
	captureLimit = 15 * time.Minute // for those that share a capture
	diskBytes    = 1 << 30          // of the disk by which captures leave the guest
)

// A guest is the virtual machine, one for all tests.
type guest struct {
	place
	cmd     *exec.Cmd
	stderr  *console
	exited  chan struct{}
	used    atomic.Int32 // ports
	disk    string       // the host's file for /dev/vda
	release string       // of the kernel
	logged  string       // by the kernel, after the boot

	terminates atomic.Int32 // that siw gets for faults of its own
}

var boot struct {
	once sync.Once
	vm   *guest
	err  error
}

// theGuest returns the running guest and boots it first if need be.
func theGuest(t *testing.T) *guest {
	t.Helper()
	needs(t)
	boot.once.Do(func() { boot.vm, boot.err = bootSurely() })
	require.NoError(t, boot.err)
	return boot.vm
}

// reboot replaces a guest whose kernel has found a fault of its own.
func reboot(t *testing.T) *guest {
	t.Helper()
	boot.vm.stop()
	boot.vm, boot.err = bootSurely()
	require.NoError(t, boot.err)
	return boot.vm
}

// bootSurely tries again where another process has taken one of the ports that were free.
func bootSurely() (g *guest, err error) {
	for range 3 {
		if g, err = bootGuest(); err == nil {
			break
		}
	}
	return g, err
}

// boots counts the guests.
var boots int

func bootGuest() (*guest, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	boots++
	disk := filepath.Join(bin, "disk")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, diskBytes)); err != nil {
		return nil, err
	}
	args := []string{"-l", filepath.Join(bin, fmt.Sprintf("console-%d.log", boots)), "-t", strconv.Itoa(int(vmLimit.Seconds())), "-m", "crc32_generic", "-m", "rdma_rxe", "-m", "dummy", "-m", "veth", "-m", "sch_netem", "-m", "virtio_blk", "-d", disk,
		"-p", fmt.Sprintf("%d:%d", ports[0], agentPort)}
	for _, name := range guestPrograms {
		args = append(args, "-f", filepath.Join(bin, name))
	}
	if *consoleFlag {
		args = append(args, "-v")
	}
	if *pcapFlag != "" {
		args = append(args, "-c", *pcapFlag)
	}
	init, tap := routeInit, []*os.File(nil)
	if l, err := theLink(); err == nil {
		args, init, tap = append(args, "-a", "3"), init+"\n"+linkInit, []*os.File{l.tap}
	}
	g := &guest{
		place:  place{name: "guest", Client: agent.Client{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))}},
		cmd:    exec.Command("./vm", append(args, "--", "guestd")...),
		stderr: &console{},
		exited: make(chan struct{}),
		disk:   disk,
	}
	g.cmd.Stderr = g.stderr
	g.cmd.ExtraFiles = tap
	// The virtual machine ends with this process, even when that is cut off; the kernel takes the
	// thread that started it for the parent.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := g.cmd.Start()
		started <- err
		if err == nil {
			_ = g.cmd.Wait()
			close(g.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	if err := g.awaitBoot(); err != nil {
		g.stop()
		return nil, fmt.Errorf("%w\n%s", err, g.stderr)
	}
	if err := g.setUp(init); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

// setUp gives the guest the addresses of the routes.
func (g *guest) setUp(init string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cellLimit)
	defer cancel()
	p, err := g.Start(ctx, "sh", "-ec", init+"; dmesg -c >/dev/null; uname -r")
	if err != nil {
		return err
	}
	if exit, err := p.Wait(); err != nil || exit != 0 {
		return fmt.Errorf("set up the guest: status %d, %w: %s", exit, err, p.Stderr())
	}
	g.release = strings.TrimSpace(p.Stdout())
	return nil
}

// awaitBoot waits until the guest takes commands. Its port answers before that, as qemu listens on
// it.
func (g *guest) awaitBoot() error {
	limit := time.NewTimer(bootLimit)
	defer limit.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-g.exited:
			return fmt.Errorf("the virtual machine ended: %v", g.cmd.ProcessState)
		case <-limit.C:
			return fmt.Errorf("the virtual machine did not start within %v", bootLimit)
		case <-tick.C:
			if strings.Contains(g.stderr.String(), "listening on") {
				return nil
			}
		}
	}
}

// stop ends the virtual machine and waits for that.
func (g *guest) stop() {
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.exited:
	case <-time.After(10 * time.Second):
		_ = g.cmd.Process.Kill()
		<-g.exited
	}
}

// stopGuest also keeps the consoles of a run that fails.
func stopGuest(failed bool) {
	if boot.vm != nil {
		boot.vm.stop()
	}
	for i := range boots {
		name := fmt.Sprintf("console-%d.log", i+1)
		kept := filepath.Join(os.TempDir(), "iwarp-kernel-"+name)
		if b, err := os.ReadFile(filepath.Join(bin, name)); failed && err == nil {
			fmt.Fprintf(os.Stderr, "console of the guest kept in %s (%v)\n", kept, os.WriteFile(kept, b, 0o600))
		}
	}
}

// fetch copies a file of the guest to one of the host, by way of the disk: the emulated network is
// slow.
func (g *guest) fetch(t *testing.T, from, to string) error {
	t.Helper()
	said := g.run(t, "sh", "-ec", "dd if="+from+" of=/dev/vda bs=1M conv=fsync 2>/dev/null; wc -c <"+from)
	n, err := strconv.ParseInt(strings.TrimSpace(said), 10, 64)
	if err != nil {
		return err
	}
	if n > diskBytes {
		return fmt.Errorf("%s has %d bytes, the disk %d", from, n, diskBytes)
	}
	disk, err := os.Open(g.disk)
	if err != nil {
		return err
	}
	defer disk.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, disk, n)
	return errors.Join(err, f.Close())
}

// port returns a port that was not used for a while.
func (g *guest) port() string {
	return strconv.Itoa(firstPort + int(g.used.Add(1)%guestPorts))
}

// awaitListener waits until siw listens on the server's port.
func (g *guest) awaitListener(t *testing.T, server *agent.Process, p pair) {
	t.Helper()
	eventually(t, server, func() bool { return g.listens(t, p) })
}

// listens reports whether somebody listens on the server's port in the guest.
func (g *guest) listens(t *testing.T, p pair) bool {
	t.Helper()
	port, err := strconv.Atoi(p.port)
	require.NoError(t, err)
	want := regexp.MustCompile(fmt.Sprintf(":%04X 0+:0000 0A ", port))
	return want.MatchString(g.run(t, "cat", "/proc/net/tcp", "/proc/net/tcp6"))
}

// awaitCM waits until rdma_cm listens on the address: for devices whose listeners are no kernel
// sockets.
func (g *guest) awaitCM(t *testing.T, server *agent.Process, addr string) {
	t.Helper()
	want := regexp.MustCompile("state LISTEN .*src-addr " + regexp.QuoteMeta(addr) + " ")
	eventually(t, server, func() bool { return want.MatchString(g.run(t, "rdma", "resource", "show", "cm_id")) })
}

// eventually waits until ok, for a server to come up if there is one.
func eventually(t *testing.T, server *agent.Process, ok func() bool) {
	t.Helper()
	limit := time.Now().Add(cellLimit)
	for tick := time.NewTicker(50 * time.Millisecond); !ok(); <-tick.C {
		said := ""
		if server != nil {
			said = server.Stdout() + server.Stderr()
		}
		require.True(t, time.Now().Before(limit), "it does not come about: %s", said)
	}
}

// freePorts returns n ports of the loopback address that nothing listens on at present.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// console is what the guest prints on its console.
type console struct{ testkit.Output }

func (c *console) Write(p []byte) (int, error) {
	if *consoleFlag {
		_, _ = os.Stderr.Write(p)
	}
	return c.Output.Write(p)
}
