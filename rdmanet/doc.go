// Package rdmanet puts a net.Conn on a queue pair. The stream protocol is rsockets version 1, so C
// programs that use rsockets can be peers; two ends of this package recognise each other and then
// do a little more.
//
// Bytes travel as RDMA Writes into the peer's receive ring, each followed by a Send of one 32-bit
// word that says how many they are. Between two ends of this package the receiver needs no such
// word if it places by software: what it has placed can be read. When half a ring has been read,
// its space is given back by an RDMA Write of an address into the peer's table and a word with the
// number of messages that may follow. Words also say that an end has finished writing or has
// closed, which tells the end of a stream from a broken connection.
//
// Besides the stream an end can expose memory, which the other writes to without a message: Expose
// and WriteAt, or riomap and riowrite in rsockets. What was written this way is in place when later
// bytes of the stream are read.
//
// A connection has no goroutine of its own. Whoever reads, or waits for space to write, drives the
// queue pair, and does so for all who wait.
package rdmanet
