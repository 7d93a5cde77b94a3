// Package suites runs the test suites of others over this module, as they are: those of Go's own
// packages that use the network, of golang.org/x/net/http2 and of grpc-go. Go has nothing like
// LD_PRELOAD, but the go command can be told to take files from elsewhere (-overlay): so it finds a
// package net with a hook in Dialer.DialContext and one in ListenConfig.Listen, which testdata's
// hook sets in every test binary to this module's Dialer and ListenConfig.
//
// Each suite runs over plain TCP first, and only what fails over this module alone counts. What is
// known to differ, and why, is in exceptions_test.go.
//
//	go test ./test/suites -suites
//	go test ./test/suites -suites -full -timeout 60m
//
// The second runs also what takes long. Modules are downloaded from the proxy that the go command
// is set to use.
package suites
