// Package wire is what rsockets, and the extension of package rdmanet, put on the wire: words,
// table entries and the private data of the connection set-up. It is pure functions on bytes.
package wire
