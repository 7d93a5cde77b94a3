// Package kernel tests this module against peers that are not its own: the Linux kernel's software iWARP (siw) with
// librdmacm's rping and rstream on it, in a virtual machine, and Wireshark's dissectors. One command runs all:
//
//	go test ./test/kernel -kernel
//
// It needs what "test/kernel/vm -h" names, and tshark and tcpdump; the packages that are missing are installed by apt-get when
// run as root. One boot serves all tests. The guest sees the host's 127.0.0.1 as 10.0.2.2 and is 10.0.2.15 itself.
package kernel
