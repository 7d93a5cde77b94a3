// Package differential runs random schedules of calls on both ends of a connection, over package
// net's TCP and over each path of this module, and compares what each call returns. A schedule that
// goes another way than over TCP is cut down to the calls that matter.
//
//	go test ./test/differential -schedules 10000 -timeout 60m
package differential
