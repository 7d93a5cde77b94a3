// Package faults has a proxy stand between the two ends of a connection and do harm at each byte of
// the set-up and of the first frames, in both directions: it resets, stalls, half-closes, delays,
// duplicates and flips each bit, and it cuts the stream into segments of a byte. Every call returns
// by its deadline or with an error, no byte is wrong, and nothing is left over.
//
// A few hundred of these, always the same, are tried with the others' tests; all of them by
//
//	go test ./test/faults -all -timeout 30m
package faults
