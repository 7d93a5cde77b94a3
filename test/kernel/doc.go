// Package kernel tests this module against peers that are not its own: the Linux kernel's software
// iWARP (siw) with the programs and the library of rdma-core on it, in a virtual machine, and
// Wireshark's dissectors. One command runs a part that covers each option once, the other all and
// writes the table of results:
//
//	go test ./test/kernel -kernel
//	go test ./test/kernel -kernel -full -timeout 60m -results RESULTS.md
//
// Without hardware virtualisation they take minutes, and half an hour on two cores. They need root,
// for the captures, and Debian 12 on x86-64: what else is missing is installed by apt-get. One boot
// serves all tests. The guest is 10.0.2.15 on an emulated network by which it is told what to do,
// and 10.6.0.15 and fd00:6::15 on an Ethernet to this host, which is a tap device in a network
// namespace; where /dev/net/tun is missing, what needs that is skipped. A network namespace in the
// guest is 10.8.0.2, for the faults that need a network of their own. With -pcap FILE what goes
// over the Ethernet is captured, with -console the guest's console is shown. Captures that do not
// pass are kept, and so is the console of a run that fails.
package kernel
