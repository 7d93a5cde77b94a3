package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
	"github.com/rdmanet/iwarp/internal/testkit"
)

func init() {
	testkit.Processes["report listener"] = func() int {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		if err := command(ctx, []string{"-listen", ":7000"}, os.Stdout, os.Stdout); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	}
}

// TestTwoHosts measures between two network namespaces, which a pair of virtual interfaces joins.
func TestTwoHosts(t *testing.T) {
	if !testkit.InNamespace(t) {
		return
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		testkit.SkipUnprivileged(t, err)
	}
	peer := testkit.Command(t, "report listener")
	peer.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := peer.StdinPipe()
	require.NoError(t, err)
	out, err := peer.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, peer.Start())
	log := bufio.NewReader(out)
	line, err := log.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "listening on [::]:7000 and the 27 ports that follow")

	pid := fmt.Sprint(peer.Process.Pid)
	testkit.IP(t, "link add near type veth peer name far netns "+pid)
	testkit.IP(t, "address add 10.7.0.1/24 dev near")
	testkit.IP(t, "link set near up")
	for _, args := range [][]string{{"address", "add", "10.7.0.2/24", "dev", "far"}, {"link", "set", "far", "up"}} {
		b, err := exec.Command(nsenter, append([]string{"-t", pid, "-n", "ip"}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", b)
	}

	var table bytes.Buffer
	require.NoError(t, command(t.Context(), []string{"-quick", "-out", "", "-connect", "10.7.0.2:7000"}, &table, io.Discard))
	require.Contains(t, table.String(), "client and server on two hosts")
	require.Contains(t, table.String(), label(lab.SoftCRC))
	require.Contains(t, table.String(), "gRPC, unary")
	require.NotContains(t, table.String(), label(lab.Shm))
	require.NotContains(t, table.String(), label(lab.Unix))

	require.NoError(t, in.Close())
	rest, err := io.ReadAll(log)
	require.NoError(t, err)
	require.NoError(t, peer.Wait(), "%s", rest)

	began := time.Now()
	require.ErrorContains(t, command(t.Context(), []string{"-quick", "-out", "", "-connect", "10.7.0.1:7000"}, io.Discard, io.Discard), "no peer at 10.7.0.1:7000")
	require.Less(t, time.Since(began), helloTimeout)
}
