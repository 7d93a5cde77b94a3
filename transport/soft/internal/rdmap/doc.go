// Package rdmap encodes and decodes the headers of the Remote Direct Memory Access
// Protocol (RFC 5040, section 4) and holds the errors that a Terminate message can
// report for RDMAP and the layers below it.
//
// Validate makes all checks of a received segment that need no connection state.
// The others belong to the endpoint, which reports them with the errors defined here.
// All functions work on byte slices, keep no state and do no I/O. None
// allocates, except the Append functions when they have to grow their destination, and
// String. Slices in results alias the input.
package rdmap
