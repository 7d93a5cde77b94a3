// Package benchmarks compares every path of the module with net.TCPConn: plain TCP, the same again
// as a control, package iwarp's own fallback to TCP, software iWARP with and without CRC32C and
// with small FPDUs, crypto/tls, shared memory and Unix sockets. On Linux all of them that are TCP
// use the same congestion control.
//
//	go test ./benchmarks -bench . -count 6 | benchstat -col /transport,/crc -
//
// runs them one after the other. On a machine that is not quiet only the interleaved comparison
// counts, which is a module of its own:
//
//	go run -C benchmarks/report .
package benchmarks
