// Package iwarptest helps to test and to measure a service on every path that its connections may
// take: plain TCP, iWARP in software, and the RDMA transports that the test program imports, such
// as shared memory.
//
//	import _ "github.com/rdmanet/iwarp/transport/shm" // adds its path
//
//	func TestService(t *testing.T) {
//		iwarptest.Each(t, func(t *testing.T, p iwarptest.Path) {
//			l := iwarptest.Listen(t, p)
//			go Serve(l)
//			c := iwarptest.Dial(t, p, l.Addr())
//			...
//		})
//	}
//
// Each names the subtests of a test, and those of a benchmark, path=tcp, path=soft and so on, so
// that benchstat compares them with -col /path.
//
// All that is opened for a test is closed at its end.
package iwarptest
