package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit"
)

var throughput = flag.Int("throughput", 0, "measure this many rounds through gateways and through haproxy")

// roundBytes go through each of the ways in a round.
const roundBytes = 512 << 20

// TestThroughput measures what goes through two gateways, and through one of haproxy, in turns:
//
//	go test -C cmd ./iwarp-gateway -run Throughput -throughput 15 -v
//
// A second haproxy is the control. Client and server are in the process of the test. The processor
// time is that of what is in between.
func TestThroughput(t *testing.T) {
	if *throughput == 0 {
		t.Skip("without -throughput")
	}
	proxy, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip(err)
	}
	sink := server(t, func(c *net.TCPConn) {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
		if err == nil {
			_, _ = fmt.Fprintln(c, n)
		}
	})
	ways := []way{
		haproxy(t, proxy, sink),
		haproxy(t, proxy, sink),
		pair(t, sink, "shm"),
		pair(t, sink, "soft"),
		gatewayProcess(t, "tcp", sink, "tcp", ""),
		{name: "nothing in between", address: sink},
	}
	rates := make([][]float64, len(ways))
	for range *throughput {
		for i, w := range ways {
			rates[i] = append(rates[i], carryBytes(t, w.address, roundBytes))
		}
	}
	for i, w := range ways {
		ratios := make([]float64, len(rates[i]))
		for k := range ratios {
			ratios[k] = rates[i][k] / rates[0][k]
		}
		slices.Sort(ratios)
		slices.Sort(rates[i])
		n := len(ratios)
		fmt.Printf("%-30s %5.2f GB/s, %.2f of haproxy (quartiles %.2f to %.2f), %.2f ns of processor time per byte\n",
			w.name, rates[i][n/2], ratios[n/2], ratios[n/4], ratios[3*n/4], float64(w.processorTime(t))/float64(n*roundBytes))
	}
}

// A way is what is between the client and the server.
type way struct {
	name, address string
	processes     []int
}

// processorTime returns what its processes have used.
func (w way) processorTime(t *testing.T) (sum time.Duration) {
	const tick = 10 * time.Millisecond // of USER_HZ
	for _, pid := range w.processes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(t, err)
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		for _, f := range fields[11:13] {
			n, err := strconv.Atoi(f)
			require.NoError(t, err)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

// carryBytes sends n bytes to the server at address and returns how many arrive there in a
// nanosecond.
func carryBytes(t *testing.T, address string, n int) float64 {
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(limit)))
	b := make([]byte, 256<<10)
	begun := time.Now()
	for range n / len(b) {
		_, err = c.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	var got int
	_, err = fmt.Fscan(c, &got)
	took := time.Since(begun)
	require.NoError(t, err)
	require.Equal(t, n, got)
	return float64(n) / float64(took)
}

// haproxy starts one towards target.
func haproxy(t *testing.T, program, target string) way {
	address := testkit.ClosedPort(t)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	config := "defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n" +
		"listen l\n bind " + address + "\n server s " + target + "\n"
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	return way{"haproxy", address, []int{run(t, exec.Command(program, "-db", "-f", file), address)}}
}

// pair starts two gateways with iWARP between them, by the transport of that name.
func pair(t *testing.T, target, transport string) way {
	far := gatewayProcess(t, "iwarp", target, "tcp", transport)
	near := gatewayProcess(t, "tcp", far.address, "iwarp", transport)
	return way{"two gateways, " + transport, near.address, append(near.processes, far.processes...)}
}

// gatewayProcess starts a gateway that goes by the transport of that name alone, if there is one.
func gatewayProcess(t *testing.T, from, target, to, transport string) way {
	address := testkit.ClosedPort(t)
	p := exec.Command(os.Args[0], from+"://"+address+"="+to+"://"+target)
	p.Env = append(os.Environ(), asProgram+"=1", onlyTransport+"="+transport)
	return way{"one gateway, TCP on both sides", address, []int{run(t, p, address)}}
}

// run runs p, which listens at address, until the end of the test. It returns its number.
func run(t *testing.T, p *exec.Cmd, address string) (pid int) {
	log := new(testkit.Output)
	p.Stdout, p.Stderr = log, log
	p.WaitDelay = limit
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, limit, 10*time.Millisecond, "%s", log)
	return p.Process.Pid
}
