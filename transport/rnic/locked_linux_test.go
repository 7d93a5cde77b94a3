//go:build amd64 || arm64

package rnic_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic"
	"github.com/rdmanet/iwarp/transport/soft"
)

const (
	lockedBytes = 8 << 20 // what many containers may lock
	enoughConns = 120     // that must fit
	dialedConns = 200     // which do not
	lockedPeer  = "RNIC_LOCKED_PEER"
	lockedAsks  = "RNIC_LOCKED_ASKS" // software asks the peer first
)

// TestConnectionsInLockedMemory has 8 MiB of memory that may be locked be enough for 120
// connections, and those beyond the limit be plain TCP, with the reason.
func TestConnectionsInLockedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 200 connections on each device")
	}
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		lc := iwarp.ListenConfig{Transports: []transport.Transport{r, soft.New(nil)}}
		l, err := lc.Listen(t.Context(), "tcp", netip.AddrPortFrom(addr, 0).String())
		require.NoError(t, err)
		defer l.Close()
		go testkit.Echo(l)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLockedDialer$", "-test.v")
		cmd.Env = append(os.Environ(), lockedPeer+"="+l.Addr().String())
		if d.KernelPorts {
			cmd.Env = append(cmd.Env, lockedAsks+"=1")
		}
		out, err := outputWithoutIPCLock(cmd)
		require.NoError(t, err, "%s", out)
		t.Log(out)
	})
}

// outputWithoutIPCLock runs a command that cannot have CAP_IPC_LOCK, for which there is no limit.
func outputWithoutIPCLock(cmd *exec.Cmd) (string, error) {
	var b strings.Builder
	cmd.Stdout, cmd.Stderr = &b, &b
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with the goroutine
		err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_IPC_LOCK, 0, 0, 0)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	if err := <-started; err != nil {
		return "", err
	}
	err := cmd.Wait()
	return b.String(), err
}

// TestLockedDialer is the other process of TestConnectionsInLockedMemory.
func TestLockedDialer(t *testing.T) {
	peer := os.Getenv(lockedPeer)
	if peer == "" {
		t.Skip("it is run by another test")
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: lockedBytes, Max: lockedBytes}))
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, Transports: []transport.Transport{rnic.New(nil)}, HandshakeTimeout: 10 * time.Second}
	beyond := "tcp limit reached"
	if os.Getenv(lockedAsks) != "" {
		beyond = "soft none"
		d.Transports = append(d.Transports, soft.New(nil))
	}
	var conns []net.Conn
	counts := make(map[string]int)
	last := ""
	for range dialedConns {
		c, err := d.Dial("tcp", peer)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, echoes(c))
		info, _ := iwarp.Describe(c)
		conns = append(conns, c)
		last = info.Transport + " " + info.Reason.String()
		counts[last]++
	}
	fmt.Println(counts, last)
	require.GreaterOrEqual(t, counts["rnic none"], enoughConns)
	require.Equal(t, beyond, last)
	for _, c := range slices.Backward(conns) { // they all live on
		require.NoError(t, echoes(c))
	}
}

func echoes(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "x"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}
