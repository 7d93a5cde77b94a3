// Package ddp encodes and decodes the segment headers of Direct Data Placement
// (RFC 5041, section 4). All functions work on byte slices, keep no state, do no
// I/O and do not allocate, except Append when it has to grow its destination.
// Slices in results alias the input.
package ddp
