package suites

import (
	"regexp"
	"slices"
	"strings"
)

// An exception is a test that is not for this module.
type exception struct {
	suites []string // names
	test   string   // with its part, if only that is excepted
	ways   []string // all, if there are none
	reason string
}

type exceptionList []exception

const (
	asserts = "asserts that a connection is a *net.TCPConn"
	dials   = "dials by net.DialTCP, which has no hook: a plain client"
	silent  = "has a second or less for a client that never says a word, which Accept returns after a second"
)

var iwarpAtBothEnds = []string{"require", "prefer"}

var exceptions = exceptionList{
	{suites: []string{"http", "http-long"}, test: "TestClientWriteShutdown", ways: iwarpAtBothEnds, reason: asserts},
	{suites: []string{"http", "http-long"}, test: "TestHijackAfterCloseNotifier", ways: iwarpAtBothEnds, reason: asserts},
	{suites: []string{"http", "http-long"}, test: "TestServerHijackGetsBackgroundByte", ways: iwarpAtBothEnds, reason: asserts},
	{suites: []string{"http", "http-long"}, test: "TestServerHijackGetsBackgroundByte_big", ways: iwarpAtBothEnds, reason: asserts},
	{suites: []string{"http", "http-long"}, test: "TestServerHijackGetsFullBody", ways: iwarpAtBothEnds, reason: asserts},
	{suites: []string{"http", "http-long"}, test: "TestInvalidChunkedBodies", ways: iwarpAtBothEnds, reason: asserts},
	{suites: []string{"http", "http-long"}, test: "TestTransportRequestWriteRoundTrip", ways: iwarpAtBothEnds, reason: asserts},
	{suites: []string{"http", "http-long"}, test: "TestLinuxSendfile", reason: "asserts that a listener is a *net.TCPListener"},
	{suites: []string{"grpc-transport"}, test: "Test/TCPUserTimeout", ways: iwarpAtBothEnds, reason: asserts},
	{suites: []string{"grpc-transport"}, test: "Test/ServerCredsHandshakeTimeout", ways: []string{"auto"}, reason: silent},
	{suites: []string{"grpc-transport"}, test: "Test/ServerCredsHandshake_XDSHandshakeInfoError", ways: []string{"auto"}, reason: silent},
	{suites: []string{"grpc-end2end"}, test: "Test/CZSocketMetricsSocketOption", ways: iwarpAtBothEnds, reason: "wants the options of a socket"},
	{suites: []string{"http-more"}, test: "TestReverseProxyWebSocketHalfTCP", ways: []string{"require"}, reason: dials},
	{suites: []string{"http-more"}, test: "TestReverseProxyWebSocketHalfTCP", ways: []string{"prefer"}, reason: asserts},
	{suites: []string{"rpc"}, test: "TestShutdown", ways: iwarpAtBothEnds, reason: asserts},
}

func (l exceptionList) of(s suite, way string) []exception {
	return slices.DeleteFunc(slices.Clone(l), func(e exception) bool {
		return !slices.Contains(e.suites, s.name) || len(e.ways) > 0 && !slices.Contains(e.ways, way)
	})
}

// covers reports whether a test, named by its package and itself, is the exception or a part of it,
// or has it as a part.
func (e *exception) covers(name string) bool {
	_, test, _ := strings.Cut(name, " ")
	return test == e.test || strings.HasPrefix(test, e.test+"/") || strings.HasPrefix(e.test, test+"/")
}

// skipping is the pattern of go test's -skip.
func skipping(list []exception) string {
	if len(list) == 0 {
		return "^$"
	}
	var patterns []string
	for _, e := range list {
		parts := strings.Split(e.test, "/")
		for i := range parts {
			parts[i] = "^" + regexp.QuoteMeta(parts[i]) + "$"
		}
		patterns = append(patterns, strings.Join(parts, "/"))
	}
	return strings.Join(patterns, "|")
}
