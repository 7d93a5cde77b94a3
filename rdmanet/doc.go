// Package rdmanet puts a net.Conn on a queue pair. The stream protocol is rsockets version 1, so
// that C programs which use rsockets are peers; two ends of this package recognise each other and
// then do a little more.
//
// Bytes travel as RDMA Writes into the peer's receive ring, each followed by a Send of one 32-bit
// word that tells their number. Between two ends of this package the receiver needs no such word if
// it places by software: what it has placed can be read. When half a ring has been read, its space
// is given back by an RDMA Write of an address into the peer's table and a word with the number of
// messages that may follow. Words also say that an end has finished writing, or has closed; so the
// end of a stream is told apart from a connection that broke.
//
// Beside the stream an end can expose memory, which the other writes without a message: Expose and
// WriteAt, riomap and riowrite in rsockets. What was written this way is there when later bytes of
// the stream are read.
//
// A connection has no goroutine of its own. Whoever reads, or has to wait for space before it can
// write, lets the queue pair work, and does so for all who wait.
package rdmanet
