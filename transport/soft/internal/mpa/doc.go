// Package mpa encodes and decodes the wire formats of Marker PDU Aligned framing:
// the request and reply frames that open a connection (RFC 5044, section 7.1, and
// RFC 6581) and the FPDUs that follow (RFC 5044, section 4).
//
// All functions work on byte slices, keep no state and do no I/O. None allocates,
// except Append when it has to grow its destination. Slices in results alias the input.
// Markers are not implemented: MULPDUMarkers only computes the room they would take.
package mpa
