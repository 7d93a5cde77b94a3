//go:build linux

package kernel

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A cell names a row of the document of results. Tests of the same name share a row.
type cell struct {
	Peer    string // program and what it runs on, such as "rstream (siw)"
	Role    string // of our end: client, server, or none for a control
	Route   string // where our end is and how it reaches the peer
	Options string // what the two ends do, such as "MPA 2, CRC by both"
}

// A tally counts the ends of a cell's tests.
type tally struct {
	Passed, Failed int
	Faults         map[string]int // by reason
}

var results struct {
	sync.Mutex
	cells    map[cell]*tally
	sections map[string]string
}

func (c cell) tally(f func(*tally)) {
	results.Lock()
	defer results.Unlock()
	if results.cells == nil {
		results.cells = make(map[cell]*tally)
	}
	if results.cells[c] == nil {
		results.cells[c] = &tally{Faults: make(map[string]int)}
	}
	f(results.cells[c])
}

// record notes how the test ends.
func record(t *testing.T, c cell) {
	t.Helper()
	t.Cleanup(func() {
		c.tally(func(n *tally) {
			if t.Failed() {
				t.Logf("the guest's kernel says: %s", boot.vm.lastWords())
				n.Failed++
			} else if !t.Skipped() {
				n.Passed++
			}
		})
	})
}

// fault notes that what the cell wants does not work for a reason that is not ours. A control must
// show that, and the test is to check that it still is so.
func fault(t *testing.T, c cell, reason string) {
	t.Helper()
	t.Logf("fault of the peer: %s", reason)
	c.tally(func(n *tally) { n.Faults[reason]++ })
}

// section has the document end with text under a title.
func section(title, text string) {
	results.Lock()
	defer results.Unlock()
	if results.sections == nil {
		results.sections = make(map[string]string)
	}
	results.sections[title] = text
}

func (n *tally) String() string {
	var s []string
	if n.Passed > 0 {
		s = append(s, fmt.Sprintf("%d passed", n.Passed))
	}
	if n.Failed > 0 {
		s = append(s, fmt.Sprintf("**%d failed**", n.Failed))
	}
	for _, why := range slices.Sorted(maps.Keys(n.Faults)) {
		s = append(s, fmt.Sprintf("%d: %s", n.Faults[why], why))
	}
	return strings.Join(s, "; ")
}

// programs are the packages whose versions the document names.
var programs = []string{"librdmacm1", "rdmacm-utils", "ibverbs-providers", "perftest", "iperf3", "curl", "socat", "nuttcp", "netpipe-tcp", "tcpdump", "tshark", "qemu-system-x86"}

// writeInterop writes the document of results.
func writeInterop(file string) error {
	results.Lock()
	defer results.Unlock()
	var b strings.Builder
	form := "a part that covers each option once"
	if *fullFlag {
		form = "the whole"
	}
	fmt.Fprintf(&b, interopHead, form)
	fmt.Fprintf(&b, "Guest kernel: %s with siw and rxe of the same source.", kernelRelease())
	for _, p := range programs {
		if v, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", p).Output(); err == nil {
			fmt.Fprintf(&b, " %s %s.", p, v)
		}
	}
	b.WriteString("\n\n| peer | our role | our end | options | result |\n|---|---|---|---|---|\n")
	order := func(x, y cell) int {
		return cmp.Or(cmp.Compare(x.Peer, y.Peer), cmp.Compare(x.Role, y.Role), cmp.Compare(x.Route, y.Route), cmp.Compare(x.Options, y.Options))
	}
	passed, failed, faults := 0, 0, 0
	for _, c := range slices.SortedFunc(maps.Keys(results.cells), order) {
		n := results.cells[c]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %v |\n", c.Peer, c.Role, c.Route, c.Options, n)
		passed, failed = passed+n.Passed, failed+n.Failed
		for _, k := range n.Faults {
			faults += k
		}
	}
	fmt.Fprintf(&b, "\n%d passed, %d failed, %d with a fault of the peer.\n", passed, failed, faults)
	fmt.Fprintf(&b, "\n## Captures\n\n%s", captures())
	for _, title := range slices.Sorted(maps.Keys(results.sections)) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", title, strings.TrimSpace(results.sections[title]))
	}
	b.WriteString(interopFaults)
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

func kernelRelease() string {
	if boot.vm == nil {
		return "none booted"
	}
	return boot.vm.release
}

const interopHead = `# Interoperability

What this module was run against that it did not write itself: the Linux kernel's software iWARP (siw) and software RoCE (rxe), and the programs and
libraries of rdma-core on them, all unchanged, in a virtual machine. This file is written by

    go test ./test/kernel -kernel -full -timeout 60m -interop ../../docs/interop.md

and this is the result of %s of the suite.
A control is two ends that are both not ours. The sessions of the pairs on each route, of broken networks and ends, of the modes of
rstream, of the relays, of socat and curl, of the 10,000 connections and of the programs of rdma-core with siw as a device are captured, and decoded by Wireshark's
dissectors; those of the controls, of the volume, of the comparisons of speed, of a link that is cut for good, of those who break the
protocols, of net/http and package iwarp through a device, and of rxe are not. siw's compile-time constants are made parameters of the module for this, with the same defaults.

`

const interopFaults = `
## Faults of the peers, and how this module lives with them

| peer | fault | what is done |
|---|---|---|
| siw 6.1 | loses the wake-up for an FPDU that comes right behind its MPA reply, and then does not read on | an initiator that hears nothing sends empty Writes after 5, 20, 100 and 500 ms, and one more behind what it had sent before it heard something |
| siw 6.1, initiator | fails with EPROTO if a byte follows the MPA reply too closely | a responder sends nothing before the initiator's first FPDU |
| siw 6.1, responder | sends FPDUs before it has received one | an initiator receives from the reply on |
| siw 6.1, responder | never asks for CRC, not even with its constant mpa_crc_required | CRC is used when our end asks |
| siw 6.1 | forgets the first bytes of a CRC that is spread over two TCP segments, and then finds it wrong | FPDUs end with their segment; a network that cuts the stream anew breaks streams with CRC |
| siw 6.1 | now and then adds the payload, or what is left of it, to the CRC of an FPDU for a second time, as it waits for room within the FPDU: do_crc and in_syscall share a byte that two CPUs write without a lock | the connection ends with a Terminate that says so; the cell is run again, and the capture has to show it |
| siw 6.1 | resets its connections when the interface goes down, be it for a moment | nothing can be |
| siw 6.1 | writes layer and type of a Terminate in the wrong halves of their byte | both readings are told |
| siw 6.1 | treats a TCP half-close as the end and drops what it still has to send | half-close is a word of the stream; the FIN comes last |
| siw 6.1 | cannot use 127.0.0.1 and ::1 | none is possible; other loopback addresses work |
| iw_cm 6.1 | "kernel BUG at drivers/infiniband/core/iwcm.c:969": a connection that its peer closes right behind the MPA reply, while it is still being accepted, stops the worker, and with it all of rdma_cm | the replay of requests waits before it closes |
| rsockets | has no receive for words that need no credit, and iWARP cannot repeat a Send without a receive | some of its credits stay unused |
| rsockets | closes TCP behind its last word, and its kernel answers what comes then with a reset that overtakes data | it is told of space and credits only when it cannot go on without, or as long as nothing has come from it |
| rsockets | an end that has finished writing takes the peer's end of writing for that of the connection, and on close drops what it has not sent yet | nothing can be; let one end finish after the other |
| rsockets | counts room and places (sbuf_bytes_avail, sqe_avail, rbuf_bytes_avail) under one lock as it sends or receives, and under another as it polls for completions: with a thread that sends and one that receives, counts get lost, a connection comes to a standstill, and wrong data was seen | the tests use a connection with one thread; a Conn of ours may be used by any number |
| rsockets | a thread that waits in a receive may not notice that the connection has broken | nothing can be |
| rsockets | a request without private data kills a listening process | every request of a stream carries private data |
| rsockets | never gives back the credit of an iomap word | it is given back by us, and not taken from it |
| siw 6.1, initiator | follows a nil pointer in the kernel (siw_cm_upcall) where something else than an MPA reply answers its request | a Dialer has iWARP in software ask the peer before siw talks to it |
| siw in rdma-core 44 | takes one of the kernel's places for a queue (0x90000) for a failure, so that a connection fails with EIO now and then | the dial fails with a temporary error and falls back |
| librdmacm 44 | keeps a device open that is to be removed, which the removal waits for | its descriptors are closed below it once the last connection is gone |
| rdma_cm | picks ports without a look at sockets | no port is left to it; a C client that gets one in use is started again |
| rsockets | may notice the end of the TCP stream sooner than what came before it, and drops that | the end of the stream is left to it for a second |
| rstream -T a | two C ends fail now and then: POLLHUP is seen before the last data | our end finishes last, and it works |
| rstream -T f, -f gid | the one wants a library with support for fork, the other InfiniBand addresses | nothing can be |
| rcopy | takes an address to end at its first colon, and its server listens on IPv4 | only IPv4 is run |
| perftest | takes only IPv4 addresses, and gives no report when the clock of an emulated processor does not satisfy it | the cell is run again |
| perftest without -R | exchanges queue pair numbers by plain TCP and connects the queue pairs itself, which iWARP cannot | it is run with -R, where all is by rdma_cm |
| socat, iperf3, nuttcp on rsockets | die, stall or do not listen between two C ends | with a relay of ours at one end some do; see the table |
`
