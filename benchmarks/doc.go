// Package benchmarks compares every path of the module with net.TCPConn: plain TCP, the same again
// as a control, package iwarp's own fallback to TCP, software iWARP with and without CRC32C, and
// crypto/tls. On Linux all of them use the same congestion control.
//
//	go test ./benchmarks -bench . -count 6 | benchstat -col /transport,/crc -
//
// runs them one after the other. On a machine that is not quiet only the interleaved comparison
// counts:
//
//	go run ./benchmarks/report
package benchmarks
