// Package kernel tests this module against peers that are not its own: the Linux kernel's software iWARP (siw) with the programs and the
// library of rdma-core on it, in a virtual machine, and Wireshark's dissectors. One command runs a part that covers each option once, the
// other all and writes the table of results:
//
//	go test ./test/kernel -kernel
//	go test ./test/kernel -kernel -full -timeout 60m -interop ../../docs/interop.md
//
// Without hardware virtualisation they take minutes, and much longer. They need root, for the captures, and Debian 12 on x86-64: what else is
// missing is installed by apt-get. One boot serves all tests. The guest is 10.0.2.15 and sees the host's 127.0.0.1 as
// 10.0.2.2; a network namespace in it is 10.8.0.2, for the ends and the faults that need a network of their own. With -pcap FILE what goes
// between the host and the guest is captured, with -console the guest's console is shown. Captures that do not pass are kept, and so is the
// console of a run that fails.
//
// Parts of the suite can be run apart, by -run, and make one table: each keeps its results with -save FILE, and the last takes those of the
// others with -merge FILE,FILE.
package kernel
