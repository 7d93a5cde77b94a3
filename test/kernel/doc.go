// Package kernel tests this module against peers that are not its own: the Linux kernel's software iWARP (siw) with
// librdmacm's rping and rstream on it, in a virtual machine, and Wireshark's dissectors. One command runs all:
//
//	go test ./test/kernel -kernel
//
// It needs root, tshark, and what "test/kernel/vm -h" names, which is installed by apt-get where it is missing. One boot serves
// all tests. The guest is 10.0.2.15 and sees the host's 127.0.0.1 as 10.0.2.2. With -pcap FILE what goes between the two is
// captured, with -console the guest's console is shown.
package kernel
