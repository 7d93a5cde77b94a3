// Package statpage keeps what a process knows of its connections, listeners and reservations where
// other processes can read it: on Linux in a memfd, whose mapping is written by atomic stores of
// the code that does the work, and which others open through /proc/PID/fd, as far as the kernel's
// rules for ptrace(2) let them. So it can be read while the process hangs, and is gone with it.
// Where there is no such file, the records are ordinary memory, for the process alone.
//
// A page is a header with counters of the process, followed by records of one size. A record has a
// number that changes whenever the record is given to something else, and is odd while that is
// under way, so that a reader never mixes two.
package statpage
